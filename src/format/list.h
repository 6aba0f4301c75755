/* Every format, one line each; the order means nothing. FORMAT(NAME) stands for the object
 * NAME_format of format/NAME.c.
 */
FORMAT(archive)
FORMAT(msgpack)
FORMAT(npy)
FORMAT(npz)
FORMAT(orbax)
FORMAT(pytorch)
FORMAT(safetensors)
