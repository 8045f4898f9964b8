#!/usr/bin/env python3
"""Prints how far this service's pictures are from Pillow's and SciPy's, on real photographs.

Needs a C compiler and: pip install pillow scipy scikit-image
The service's C is built as the plain filter that it is and fed with rows, as the host feeds it.

    tests/compare.py            the table
    tests/compare.py --golden   writes the expected pictures of the tests: Pillow's box blur, SciPy's Gaussian
"""

import os
import pathlib
import subprocess
import sys
import tempfile

import numpy
from PIL import Image, ImageFilter
from scipy.ndimage import gaussian_filter1d
from skimage import data

HERE = pathlib.Path(__file__).parent
RADII = {"box": (1, 2, 3, 5, 8, 13, 25, 50), "gaussian": (3, 6, 9, 15, 25, 50)}


def photographs():
    """Those that scikit-image brings along, as RGBA."""
    for name in ("astronaut", "chelsea", "coffee", "camera", "rocket"):
        try:
            pixels = getattr(data, name)()
        except Exception as why:  # not in the package, and no network to get it from
            print(f"{name}: left out ({why.__class__.__name__})", file=sys.stderr)
            continue
        yield name, numpy.array(Image.fromarray(pixels).convert("RGBA"))


def ours(program, pixels, kind, radius):
    height, width, _ = pixels.shape
    settings = {"TILE_WIDTH": width, "TILE_HEIGHT": height, "TILE_TOP": 0, "TILE_BOTTOM": 0}
    settings |= {"PARAM_KIND": kind, "PARAM_RADIUS": radius}
    env = {f"MSM_{name}": str(value) for name, value in settings.items()}
    done = subprocess.run([program, "run"], input=pixels.tobytes(), env=env, stdout=subprocess.PIPE, check=True)
    return numpy.frombuffer(done.stdout, numpy.uint8).reshape(pixels.shape)


def exact_gaussian(pixels, radius):
    """Doubles all the way, rounded once at the end; cut off at three sigma as the service does."""
    rows = gaussian_filter1d(pixels.astype(float), radius / 3, axis=1, mode="nearest", radius=radius)
    both = gaussian_filter1d(rows, radius / 3, axis=0, mode="nearest", radius=radius)
    return numpy.rint(both).astype(numpy.uint8)


def pillow(pixels, kind, radius):
    blur = ImageFilter.BoxBlur(radius) if kind == "box" else ImageFilter.GaussianBlur(radius / 3)
    return numpy.array(Image.fromarray(pixels).filter(blur))


def distance(a, b):
    apart = numpy.abs(a.astype(int) - b.astype(int))
    return f"{apart.max():3} (mean {apart.mean():.3f})"


def table(program):
    print(f"{'photograph':12} {'size':>11} {'kind':9} {'radius':>6}  {'to Pillow':17}  to SciPy")
    for name, pixels in photographs():
        for kind, radii in RADII.items():
            for radius in radii:
                got = ours(program, pixels, kind, radius)
                scipy = distance(got, exact_gaussian(pixels, radius)) if kind == "gaussian" else "-"
                size = f"{pixels.shape[1]}x{pixels.shape[0]}"
                apart = distance(got, pillow(pixels, kind, radius))
                print(f"{name:12} {size:>11} {kind:9} {radius:6}  {apart:17}  {scipy}")


def golden():
    for file, kind, radius in [("small", "gaussian", 3), ("small", "gaussian", 50), ("photo", "gaussian", 9)]:
        source = next(HERE.glob(f"{file}.[jp][pn]g"))
        pixels = numpy.array(Image.open(source).convert("RGBA"))
        Image.fromarray(exact_gaussian(pixels, radius)).save(HERE / f"{file}.g{radius}.png", optimize=True)


if __name__ == "__main__":
    if "--golden" in sys.argv:
        golden()
        sys.exit()
    with tempfile.TemporaryDirectory() as folder:
        program = os.path.join(folder, "image-blur")
        sources = sorted((HERE.parent / "src").glob("*.c"))
        subprocess.run([os.environ.get("CC", "cc"), "-O3", *sources, "-o", program], check=True)
        table(program)
