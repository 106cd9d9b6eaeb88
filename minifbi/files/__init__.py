"""Reading and writing files: whole or not at all, and strictly, whoever made them.

=================  ==============================================================
``atomic``         a file that is at every moment the old one or the new one
``strict_json``    JSON as the standard has it, and no more
``npz``            arrays as ``np.savez`` writes them, and no more
``checkpoint``     arrays and JSON in one sealed file
``lock``           one process at a time in a folder
=================  ==============================================================
"""

from minifbi.files.atomic import keep_copy, write_atomically, write_json, write_text
from minifbi.files.checkpoint import load_checkpoint, save_checkpoint
from minifbi.files.lock import FolderLock
from minifbi.files.npz import read_npz
from minifbi.files.strict_json import check_regular, parse_json, read_json

__all__ = [
    "FolderLock",
    "check_regular",
    "keep_copy",
    "load_checkpoint",
    "parse_json",
    "read_json",
    "read_npz",
    "save_checkpoint",
    "write_atomically",
    "write_json",
    "write_text",
]
