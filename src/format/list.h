/* Every format, one line each; the order means nothing. FORMAT(NAME) stands for the object
 * NAME_format of format/NAME.c.
 */
FORMAT(archive)
FORMAT(gguf)
FORMAT(keras)
FORMAT(keras_h5)
FORMAT(keras_weights)
FORMAT(msgpack)
FORMAT(npy)
FORMAT(npz)
FORMAT(onnx)
FORMAT(pytorch)
FORMAT(safetensors)
FORMAT(tf_checkpoint)
