"""Reading and writing files: whole or not at all, and strictly, whoever made them.

=================  ==============================================================
``atomic``         a file that is at every moment the old one or the new one
``strict_json``    JSON as the standard has it, and no more
``npz``            arrays as ``np.savez`` writes them, and no more
``tensors``        ``.safetensors``, in which PyTorch's users exchange weights
``checkpoint``     arrays and JSON in one sealed file
``lock``           one process at a time in a folder
=================  ==============================================================
"""
