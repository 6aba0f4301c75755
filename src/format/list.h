/* Every format, one line each; the order means nothing. FORMAT(NAME) stands for the object
 * NAME_format of format/NAME.c.
 */
FORMAT(archive)
FORMAT(gguf)
FORMAT(msgpack)
FORMAT(npy)
FORMAT(npz)
FORMAT(orbax)
FORMAT(onnx)
FORMAT(pytorch)
FORMAT(safetensors)
FORMAT(tf_checkpoint)
