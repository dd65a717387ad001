"""Small files in the formats in which the sources of the benchmark sets publish them."""

from __future__ import annotations

import gzip
import io
import pathlib
import tarfile
import zipfile

import numpy as np
import tensorflow as tf

POWER_HEADER = (
    "Date;Time;Global_active_power;Global_reactive_power;Voltage;Global_intensity;"
    "Sub_metering_1;Sub_metering_2;Sub_metering_3"
)


def write_power(directory: pathlib.Path, num_rows: int = 60) -> np.ndarray:
    """Writes the zip file; returns the six columns that POWER keeps, of the complete rows."""
    rng = np.random.default_rng(0)
    lines, kept = [POWER_HEADER], []
    for i in range(num_rows):
        hour, minute = divmod(1000 + i, 60)
        start = f"16/12/2006;{hour:02d}:{minute:02d}:00"
        if i % 7 == 3:
            lines.append(f"{start};?;?;?;?;?;?;")
            continue
        active, reactive = rng.integers(100, 9000) / 1000, rng.integers(0, 900) / 1000
        voltage, intensity = rng.integers(22000, 25000) / 100, rng.integers(2, 300) / 10
        meters = rng.integers(0, 40, size=3).astype(float)
        numbers = f"{active:.3f};{reactive:.3f};{voltage:.3f};{intensity:.3f}"
        lines.append(f"{start};{numbers};" + ";".join(f"{meter:.3f}" for meter in meters))
        kept.append([active, voltage, *meters, 60 * hour + minute])
    with zipfile.ZipFile(directory / "household_power_consumption.zip", "w") as archive:
        archive.writestr("household_power_consumption.txt", "\r\n".join(lines) + "\r\n")
    return np.array(kept)


def write_gas(path: pathlib.Path, num_rows: int = 400, *, zipped: bool = True) -> np.ndarray:
    """Writes the readings of 16 sensors, each of the first 8 having a near copy later."""
    rng = np.random.default_rng(1)
    independent = rng.normal(size=[num_rows, 8])
    readings = np.hstack([independent, 3 * independent + 0.01 * rng.normal(size=[num_rows, 8])])
    lines = ["Time (seconds), CO conc (ppm), Ethylene conc (ppm), sensor readings (16 channels)"]
    for i, row in enumerate(readings):
        lines.append(
            f"{i / 100:.2f}     0.00     {i % 2}.00  " + "  ".join(f"{v:.6f}" for v in row)
        )
    text = "\n".join(lines) + "\n"
    if zipped:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("ethylene_CO.txt", text)
            archive.writestr("ethylene_methane.txt", "not read")
    else:
        path.write_text(text)
    return readings


def write_hepmass(directory: pathlib.Path) -> dict[str, np.ndarray]:
    """Writes both gzipped tables; returns class and features."""
    rng = np.random.default_rng(2)
    names = ["# label", *(f"f{i}" for i in range(26)), "mass"]
    tables = {}
    for part, num_rows in (("train", 60), ("test", 40)):
        labels = (np.arange(num_rows) % 2).astype(float)
        features = rng.normal(size=[num_rows, 27])
        features[:, 4:22:3] = rng.integers(0, 2, size=[num_rows, 6])  # Six discrete columns.
        tables[part] = np.column_stack([labels, features])
        lines = [",".join(names)]
        for row in tables[part]:
            line = ",".join(f"{value:.8e}" for value in row)
            # The published test table has one more field than names.
            lines.append(line + (",1000.0" if part == "test" else ""))
        text = "\n".join(lines) + "\n"
        with gzip.open(directory / f"1000_{part}.csv.gz", "wt") as file:
            file.write(text)
    return tables


def write_miniboone(directory: pathlib.Path) -> np.ndarray:
    """Writes the text; returns the signal events that are no outliers."""
    rng = np.random.default_rng(3)
    signal, background = rng.normal(size=[50, 50]), rng.normal(size=[9, 50]) + 100
    signal[:, 3:45:6] = rng.integers(0, 2, size=[50, 7])  # Seven discrete columns.
    signal[[4, 20]] = -999.0
    lines = [f" {len(signal)} {len(background)}"]
    for row in np.concatenate([signal, background]):
        lines.append(" " + " ".join(f" {value:.8e}" for value in row))
    (directory / "MiniBooNE_PID.txt").write_text("\n".join(lines) + "\n")
    return signal[signal[:, 0] > -100]


def write_bsds300(directory: pathlib.Path, num_train: int = 10) -> None:
    """Writes colour photographs of different sizes and the lists that lie beside them."""
    rng = np.random.default_rng(4)
    with tarfile.open(directory / "BSDS300-images.tgz", "w:gz") as archive:
        for part, count in (("train", num_train), ("test", 3)):
            for i in range(count):
                shape = (20 + i, 30 - i, 3)
                photograph = rng.integers(0, 256, shape, np.uint8)
                encoded = tf.io.encode_jpeg(photograph).numpy()
                entry = tarfile.TarInfo(f"BSDS300/images/{part}/{i}.jpg")
                entry.size = len(encoded)
                archive.addfile(entry, io.BytesIO(encoded))
        archive.addfile(tarfile.TarInfo("BSDS300/iids_train.txt"), io.BytesIO())
