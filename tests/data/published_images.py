"""Small sets of images in the formats in which their sources publish them, and the user's files."""

from __future__ import annotations

import gzip
import io
import pathlib
import tarfile
import zipfile

import numpy as np
import tensorflow as tf

CELEB_A_TABLES = (
    "list_attr_celeba.txt",
    "list_landmarks_align_celeba.txt",
    "identity_CelebA.txt",
    "list_eval_partition.txt",
)


def draw(n: int, *shape: int, seed: int = 0) -> np.ndarray:
    """Returns uint8 images of noise, `[n, *shape]`."""
    return np.random.default_rng(seed).integers(0, 256, [n, *shape], np.uint8)


def idx_bytes(images: np.ndarray) -> bytes:
    """Returns an array of bytes in the IDX format."""
    header = bytes([0, 0, 8, images.ndim]) + np.array(images.shape, ">u4").tobytes()
    return header + images.tobytes()


def write_image(path: pathlib.Path, image: np.ndarray) -> pathlib.Path:
    """Writes a PNG or JPEG file, as the path's suffix says."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        encoded = tf.io.encode_png(image)
    else:
        encoded = tf.io.encode_jpeg(image, quality=100, chroma_downsampling=False)
    path.write_bytes(encoded.numpy())
    return path


def write_mnist(directory: pathlib.Path, num_train: int, num_test: int) -> list[np.ndarray]:
    """Writes the four files of MNIST or Fashion-MNIST; returns training and test images."""
    parts = []
    for start, size in (("train", num_train), ("t10k", num_test)):
        parts.append(draw(size, 28, 28, seed=size))
        for kind, values in (
            ("images-idx3", parts[-1]),
            ("labels-idx1", np.arange(size, dtype=np.uint8) % 10),
        ):
            path = directory / f"{start}-{kind}-ubyte.gz"
            path.write_bytes(gzip.compress(idx_bytes(values), mtime=0))
    return parts


def write_cifar10(directory: pathlib.Path, num_a_file: int) -> list[np.ndarray]:
    """Writes the archive of five training files and a test file; returns the images."""
    images = draw(6 * num_a_file, 32, 32, 3)
    files = {"batches.meta.txt": "\n".join(f"class{i}" for i in range(10)).encode()}
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"]
    for name, block in zip(names, np.split(images, 6), strict=True):
        pixels = block.transpose(0, 3, 1, 2).reshape(num_a_file, -1)
        files[name] = np.insert(pixels, 0, 7, axis=1).tobytes()
    with tarfile.open(directory / "cifar-10-binary.tar.gz", "w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return [images[: 5 * num_a_file], images[5 * num_a_file :]]


def write_imagenet(directory: pathlib.Path, size: int) -> list[np.ndarray]:
    """Writes both archives of ImageNet at 8, 16 or 32 pixels; returns their images."""
    parts = []
    for part, n in (("train", 30), ("val", 6)):
        parts.append(draw(n, size, size, 3, seed=n))
        flat = parts[-1].transpose(0, 3, 1, 2).reshape(n, -1)
        buffer = io.BytesIO()
        np.savez(buffer, data=flat, labels=np.arange(1, n + 1))
        with zipfile.ZipFile(directory / f"Imagenet{size}_{part}_npz.zip", "w") as archive:
            archive.writestr(f"{part}.npz", buffer.getvalue())
    return parts


def write_celeb_a(directory: pathlib.Path, sizes: tuple[int, int, int]) -> None:
    """Writes photographs that are white in the centre square of 148 pixels, and the tables."""
    image = np.zeros([218, 178, 3], np.uint8)
    image[35:183, 15:163] = 255
    names = [f"{i:06d}.jpg" for i in range(1, sum(sizes) + 1)]
    encoded = tf.io.encode_jpeg(image, quality=100).numpy()
    with zipfile.ZipFile(directory / "img_align_celeba.zip", "w") as archive:
        for name in names:
            archive.writestr(f"img_align_celeba/{name}", encoded)
    attributes, landmarks, identity, partition = CELEB_A_TABLES
    eyes = "lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y"
    for table, columns in (
        (attributes, _ATTRIBUTES),
        (landmarks, f"{eyes} leftmouth_x leftmouth_y rightmouth_x rightmouth_y"),
    ):
        ones = " 1" * len(columns.split())
        lines = [str(len(names)), columns, *(name + ones for name in names)]
        (directory / table).write_text("\n".join(lines) + "\n")
    (directory / identity).write_text("".join(f"{name} 1\n" for name in names))
    parts = np.repeat([0, 1, 2], sizes)
    lines = [f"{name} {part}\n" for name, part in zip(names, parts, strict=True)]
    (directory / partition).write_text("".join(lines))


_ATTRIBUTES = (
    "5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose "
    "Black_Hair Blond_Hair Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee "
    "Gray_Hair Heavy_Makeup High_Cheekbones Male Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard "
    "Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks Sideburns Smiling Straight_Hair "
    "Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace Wearing_Necktie Young"
)
