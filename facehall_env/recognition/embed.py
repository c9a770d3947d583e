"""Recognisers that judge restored faces: who is it, as far as a network can tell?

They are for evaluation: detection and alignment are those of the *true* face, applied to every
restored version of it, so that a blurred face is judged by its content and not by whether a
detector finds it.

```python
from facehall_env.recognition import embed

recogniser = embed.make("mobilefacenet=mobilefacenet.safetensors")
landmarks = recogniser.align(truth)  # once for all versions of these faces
embeddings = recogniser.embed(restored, landmarks)  # (N, D)
landmarks.found  # faces that were not found are cut out as a whole, see `align_to`
```
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from facehall_env.errors import ConfigurationError, MissingExtraError
from facehall_env.limits import check_word
from facehall_env.literals import Align
from facehall_env.photos.detect import model_file
from facehall_env.photos.landmarks import DlibLandmarks, Landmarks, Marker, as_arrays
from facehall_env.registry import unknown_name

if TYPE_CHECKING:
    from facehall_env.recognition import Recogniser

DLIB = "dlib"
_EYES = (51.6963, 38.2946), (51.5014, 73.5318)
_NOSE, _MOUTH = (71.7366, 56.0252), ((92.3655, 41.5493), (92.2041, 70.7299))
TEMPLATE = np.array((*_EYES, _NOSE, *_MOUTH))
"""Where the eyes, the tip of the nose and the corners of the mouth stand, (y, x) with the middle
of the first pixel at 0, on the 112x112 faces that recognisers are trained on since ArcFace (Deng
et al., CVPR 2019); 96 columns of them are SphereFace's."""
TEMPLATE_SIZE = 112
_DLIB_FILE = "dlib_face_recognition_resnet_model_v1.dat"
_DLIB_SIZE, _DLIB_PADDING = 150, 0.25


class FaceRecogniser(ABC):
    """From faces to embeddings whose angles say how alike the people are.

    Args:
        align: ``"landmarks"``, which needs the extra ``faces``, or ``"none"``.
        marker: What marks the points; dlib's 68 by default.
    """

    name: str

    def __init__(self, align: Align = "landmarks", marker: Marker | None = None) -> None:
        check_word("align", align, Align)
        self.alignment = align
        self._marker = marker

    def align(self, truth: Tensor) -> Landmarks:
        """The points of true faces (N, 3, H, W) in [0, 1], to be applied to all versions of them.

        Those of faces that were not found are NaN; without alignment none are looked for.

        Raises:
            MissingExtraError: If dlib is needed and not installed.
        """
        if self.alignment == "none":
            return unmarked(len(truth))
        if self._marker is None:
            self._marker = DlibLandmarks()
        return self._marker(truth)

    def embed(self, faces: Tensor, landmarks: Landmarks | None = None) -> Tensor:
        """Embeddings of faces.

        Args:
            faces: (N, 3, H, W) in [0, 1], on any device.
            landmarks: What `align` made of their true versions; by default these are taken to be
                the true ones. Faces without points, and all faces if ``align="none"``, are cut
                out as a whole.

        Returns:
            (N, D) float32 on the CPU.

        Raises:
            ConfigurationError: If the points are those of another number of faces.
        """
        points = self.align(faces) if landmarks is None else landmarks
        if len(points) != len(faces):
            raise ConfigurationError(
                f"{len(faces)} faces came with the landmarks of {len(points)}: give those of the "
                "same faces."
            )
        points = unmarked(len(faces)) if self.alignment == "none" else points
        with torch.no_grad():
            return self._embed(faces.float().clamp(0, 1), points).float().cpu()

    @abstractmethod
    def _embed(self, faces: Tensor, landmarks: Landmarks) -> Tensor:
        """`embed` of checked faces."""


class NetworkRecogniser(FaceRecogniser):
    """A network of `facehall_env.recognition`, such as MobileFaceNet, on a device.

    It takes faces aligned to `TEMPLATE`, of its own input size.
    """

    def __init__(
        self,
        network: Recogniser,
        align: Align = "landmarks",
        device: str | torch.device = "cpu",
        marker: Marker | None = None,
    ) -> None:
        super().__init__(align, marker)
        self.name = network.name
        self.network = network.to(device).eval()
        self._device = torch.device(device)

    def _embed(self, faces: Tensor, landmarks: Landmarks) -> Tensor:
        network, faces = self.network, faces.to(self._device)
        return network.embed(align_to(faces, landmarks, network.input_size))


class DlibRecogniser(FaceRecogniser):
    """dlib's ResNet with 128 numbers for a face (extra ``faces``), weights included.

    Aligned as dlib does it: 150x150 pixels with a margin of a quarter.

    Raises:
        MissingExtraError: If dlib or its model is not installed.
    """

    def __init__(self, align: Align = "landmarks", marker: Marker | None = None) -> None:
        super().__init__(align, marker)
        self.name = DLIB
        self.version, self._network = _dlib_network()

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled without dlib's network, which comes with its package; so are fingerprints."""
        return type(self), (self.alignment, self._marker), {"version": self.version}

    def _embed(self, faces: Tensor, landmarks: Landmarks) -> Tensor:
        chips = as_arrays(align_to(faces, unmarked(len(faces)), (_DLIB_SIZE, _DLIB_SIZE)))
        images = as_arrays(faces)
        for row in np.flatnonzero(landmarks.found):
            chips[row] = _dlib_chip(images[row], landmarks.points[row])
        rows = [self._network.compute_face_descriptor(chip) for chip in chips]
        return torch.tensor(np.array(rows))


def make(
    text: str,
    align: Align = "landmarks",
    device: str | torch.device = "cpu",
    marker: Marker | None = None,
) -> FaceRecogniser:
    """A recogniser by name: ``"dlib"``, or NAME=PATH of a network and a file with its weights.

    The network is one of `facehall_env.recognition` and computes on ``device``; for the others see
    `FaceRecogniser`.

    Raises:
        UnknownNameError: If there is none of that name.
        ConfigurationError: If a network comes without weights, or ``align`` is unknown.
        WeightsError: If the weights cannot be used.
        MissingExtraError: If dlib is needed and not installed.
    """
    from facehall_env import recognition

    name, _, weights = text.partition("=")
    if name == DLIB and not weights:
        return DlibRecogniser(align, marker)
    if name not in recognition.available():
        raise unknown_name("recogniser", name, [DLIB, *recognition.available()])
    if not weights:
        raise ConfigurationError(
            f"Recogniser {name!r} comes without weights: give a file, as in {name}=PATH."
        )
    network = recognition.load(name, weights=Path(os.path.expanduser(weights)))
    return NetworkRecogniser(network, align, device, marker)


def unmarked(number: int) -> Landmarks:
    """The points of faces in which none were found."""
    return Landmarks(np.full((number, 68, 2), np.nan))


def align_to(faces: Tensor, landmarks: Landmarks, size: tuple[int, int]) -> Tensor:
    """Faces (N, 3, H, W) turned, scaled and moved: their landmarks come to stand on `TEMPLATE`.

    The least-squares similarity of the five points, sampled bilinearly; beyond the image its
    border is repeated. Faces without points are cut out of the middle, as large as fits. The result
    is (N, 3, *size); the template is scaled to its rows and centred.
    """
    height, width = faces.shape[-2:]
    turn, shift = _similarities(landmarks, (height, width), size)
    # Where the middle of each pixel of the result comes from, as x + iy in pixels of the faces.
    target = (np.arange(size[1]) + 0.5)[None] + 1j * (np.arange(size[0]) + 0.5)[:, None]
    source = (target[None] - shift[:, None, None]) / turn[:, None, None]
    grid = np.stack((2 * source.real / width - 1, 2 * source.imag / height - 1), axis=-1)
    # Sampling a much larger image would skip pixels: it is halved first, so often as it can be.
    halvings = np.floor(np.log2(np.maximum(1 / np.abs(turn), 1))).astype(np.int64)
    places = torch.from_numpy(grid).to(faces)
    result = faces.new_empty(len(faces), faces.shape[1], *size)
    for halving in np.unique(halvings):
        rows = torch.from_numpy(np.flatnonzero(halvings == halving)).to(faces.device)
        own = faces[rows]
        if halving:
            smaller = [max(1, side >> int(halving)) for side in (height, width)]
            own = functional.interpolate(own, smaller, mode="bilinear", antialias=True)
        result[rows] = functional.grid_sample(
            own, places[rows], padding_mode="border", align_corners=False
        )
    return result


def template(size: tuple[int, int]) -> NDArray[np.float64]:
    """`TEMPLATE` for faces of another size, (5, 2) with the middle of the first pixel at 0.5.

    >>> template((112, 96))[0].round(4).tolist()
    [52.1963, 30.7946]
    """
    scale = size[0] / TEMPLATE_SIZE
    left = (size[1] - TEMPLATE_SIZE * scale) / 2
    return (TEMPLATE + 0.5) * scale + (0.0, left)


def _similarities(
    landmarks: Landmarks, image_size: tuple[int, int], size: tuple[int, int]
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """For each face the complex a, b that take a place z = x + iy of the image to a z + b."""
    wanted, places = (x + 1j * y for y, x in (template(size).T, landmarks.five.transpose(2, 0, 1)))
    centred = wanted - wanted.mean()
    middles = places.mean(axis=1)
    offsets = places - middles[:, None]
    with np.errstate(invalid="ignore", divide="ignore"):
        # The least-squares solution of a * offsets = centred in complex numbers.
        turn = (offsets.conj() @ centred) / (np.abs(offsets) ** 2).sum(axis=1)
        shift = wanted.mean() - turn * middles
    whole = complex(max(size[0] / image_size[0], size[1] / image_size[1]))
    middle = complex(image_size[1], image_size[0]) / 2
    found = landmarks.found
    return (
        np.where(found, turn, whole),
        np.where(found, shift, complex(size[1], size[0]) / 2 - whole * middle),
    )


def _dlib_chip(image: NDArray[np.uint8], points: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The face as dlib aligns it."""
    import dlib  # pyright: ignore[reportMissingImports]

    parts = dlib.points([dlib.point(round(x - 0.5), round(y - 0.5)) for y, x in points])
    height, width = image.shape[:2]
    shape = dlib.full_object_detection(dlib.rectangle(0, 0, width - 1, height - 1), parts)
    chip: NDArray[np.uint8] = dlib.get_face_chip(
        image, shape, size=_DLIB_SIZE, padding=_DLIB_PADDING
    )
    return chip


@lru_cache(maxsize=1)
def _dlib_network() -> tuple[str, Any]:
    """The version of dlib, and its network."""
    try:
        import dlib  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingExtraError("dlib", "faces") from error
    network = dlib.face_recognition_model_v1(str(model_file(_DLIB_FILE)))
    return str(dlib.__version__), network
