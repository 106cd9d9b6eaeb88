"""Data sets from files and folders, and which of the readers fits.

=====================  ==============================================================
Reader                 What it reads
=====================  ==============================================================
``load_idx_folder``    a folder of four IDX files, as MNIST is published
``load_image_folder``  a folder of pictures, with a sub-folder for each class
``load_cifar``         a folder of binary files, as CIFAR-10 and CIFAR-100 have them
``load_npz``           an .npz file of arrays, as Keras ships MNIST
``load_csv``           a CSV table of labels and pixels, as Kaggle has it
=====================  ==============================================================
"""

from minifbi.datasets.sources.arrays import load_npz
from minifbi.datasets.sources.cifar import load_cifar
from minifbi.datasets.sources.find import load_path
from minifbi.datasets.sources.folders import load_image_folder
from minifbi.datasets.sources.idx_folder import load_idx_folder
from minifbi.datasets.sources.table import load_csv

__all__ = ["load_cifar", "load_csv", "load_idx_folder", "load_image_folder", "load_npz"]
__all__ += ["load_path"]
