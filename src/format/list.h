/* Every format, one line each; the order means nothing. FORMAT(NAME) stands for the object
 * NAME_format of format/NAME.c.
 */
FORMAT(archive)
FORMAT(gguf)
FORMAT(graphdef)
FORMAT(haiku)
FORMAT(keras)
FORMAT(keras_h5)
FORMAT(keras_weights)
FORMAT(msgpack)
FORMAT(npy)
FORMAT(npz)
FORMAT(onnx)
FORMAT(orbax)
FORMAT(pytorch)
FORMAT(safetensors)
FORMAT(savedmodel)
FORMAT(tf_checkpoint)
