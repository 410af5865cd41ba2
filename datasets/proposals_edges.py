"""EdgeBoxes (Zitnick 2014): boxes that hold many whole contours, as OpenCV's contrib module computes them."""

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import cv2
import numpy as np

from zoo.datasets.proposals import ProposalError, Scored, clipped, tidy
from zoo.datasets.proposals_selective import contrib, to_width

_STRONG = 99.0  # per cent of the pixels whose gradient is below that of a whole edge
_FLAT = 8.0  # Sobel's gradient of one level a pixel: less is never a whole edge
# What the file of a structured forest has to say, numbers from 1 on and lists.
_OPTIONS = ("stride", "shrinkNumber", "patchSize", "patchInnerSize", "numberOfTrees", "numberOfTreesToEvaluate")
_LISTS = ("childs", "featureIds", "thresholds", "edgeBoundaries", "edgeBins")


@dataclass(frozen=True)
class EdgeBoxes:
    """Boxes scored by the contours that lie wholly inside.

    The paper finds edges by a structured forest (Dollar 2013). Its trained model, ``model.yml`` of opencv_extra, is
    not part of OpenCV and does not come with this package: give its path. **Without it edges are plain gradients**
    (Sobel's, thinned): the boxes then follow texture and shading as well as outlines, and recall is not the paper's.

    Attributes:
        model: the structured forest's file (``model.yml`` or ``.yml.gz``), or None for gradients.
        width: pictures are scaled to it before; None leaves them as they are.
        min_side: least side of a box, in pixels of the scaled picture.
        most: boxes kept.
        alpha: IoU of neighbouring windows of the search, and
        beta: IoU above which the worse of two boxes is dropped (.65 and .75 in the paper, for an IoU of .7).
    """

    model: Path | None = None
    width: int | None = None
    min_side: float = 16.0
    most: int = 2000
    alpha: float = 0.65
    beta: float = 0.75

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        if self.model is not None and not Path(self.model).is_file():
            raise ProposalError(f"{self.model}: there is no such file; give the structured forest's model.yml")
        if self.most < 1 or (self.width is not None and self.width < 1):
            raise ValueError(f"most={self.most} and width={self.width} are at least 1")

    @property
    def name(self) -> str:
        """``"edge-boxes"``, or ``"edge-boxes-sobel"`` without the model."""
        return "edge-boxes-sobel" if self.model is None else "edge-boxes"

    @property
    def settings(self) -> dict[str, object]:
        """All attributes; the model by its content."""
        names = ("width", "min_side", "most", "alpha", "beta")
        model = None if self.model is None else hashlib.sha256(Path(self.model).read_bytes()).hexdigest()
        return {"model": model, **{name: getattr(self, name) for name in names}}

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Boxes (P, 4) float32 in continuous pixels of ``image``, uint8 RGB (H, W, 3), best first."""
        return self.scored(image)[0]

    def scored(self, image: np.ndarray) -> Scored:
        """Boxes, and their scores (P,) float32."""
        image = np.ascontiguousarray(image)
        height, width = image.shape[:2]
        seen = image if self.width is None else to_width(image, self.width)
        edges, normals = sobel_edges(seen) if self.model is None else self._structured(seen)
        search = contrib().createEdgeBoxes()
        search.setMaxBoxes(self.most)
        search.setAlpha(self.alpha)
        search.setBeta(self.beta)
        search.setMinBoxArea(self.min_side**2)
        found, scores = search.getBoundingBoxes(edges, normals)
        found = np.asarray(found, np.float64).reshape(-1, 4)
        scores = np.asarray(scores, np.float32).reshape(-1)
        boxes = clipped(np.concatenate([found[:, :2], found[:, :2] + found[:, 2:]], axis=1), seen.shape[:2])
        kept = tidy(boxes, self.min_side)
        scale = np.array([width / seen.shape[1], height / seen.shape[0]] * 2, np.float32)
        return clipped(boxes[kept] * scale, (height, width)), scores[kept]

    @cached_property
    def _forest(self) -> object:
        wrong = f"{self.model}: is no model of structured edges; give opencv_extra's model.yml"
        try:
            # OpenCV divides by what it reads, and a file of another kind would end the process.
            content = cv2.FileStorage(str(self.model), cv2.FILE_STORAGE_READ)
            options = [content.getNode("options").getNode(name) for name in _OPTIONS]
            lists = [content.getNode(name) for name in _LISTS]
            if any(each.empty() or each.real() < 1 for each in options) or any(not each.size() for each in lists):
                raise ProposalError(wrong)
            return contrib().createStructuredEdgeDetection(str(self.model))
        except (cv2.error, SystemError) as error:
            raise ProposalError(f"{wrong} ({error})") from error

    def _structured(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        edges = self._forest.detectEdges(image.astype(np.float32) / 255)
        normals = self._forest.computeOrientation(edges)
        return self._forest.edgesNms(edges, normals), normals


def sobel_edges(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thin edges (H, W) in [0, 1], and the direction (H, W) across them in [0, pi), both float32.

    The gradient of the smoothed picture, of the colour channel in which it is strongest: 1 where it is as strong as
    at the strongest hundredth of the pixels, and 0 where it is stronger one pixel further across the edge.
    """
    smooth = cv2.GaussianBlur(image.astype(np.float32), (0, 0), 1.5)
    across, down = cv2.Sobel(smooth, cv2.CV_32F, 1, 0), cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    strongest = np.hypot(across, down).argmax(axis=2)[..., None]
    across, down = (np.take_along_axis(each, strongest, axis=2)[..., 0] for each in (across, down))
    strength = np.hypot(across, down)
    edges = np.minimum(strength / max(float(np.percentile(strength, _STRONG)), _FLAT), 1.0)
    normals = np.mod(np.arctan2(down, across), np.pi)
    rows, columns = np.indices(strength.shape, np.float32)
    thin = np.ones(strength.shape, bool)
    for way in (1.0, -1.0):
        x, y = columns + way * np.cos(normals), rows + way * np.sin(normals)
        thin &= strength >= cv2.remap(strength, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    return np.where(thin, edges, 0.0).astype(np.float32), normals.astype(np.float32)
