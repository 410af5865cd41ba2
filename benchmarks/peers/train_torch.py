"""Faster R-CNN trained and run in plain PyTorch: the peer of ``benchmarks/peer_training.py``, which starts it.

Nothing of this package is imported but the file that both sides share, and no compiled operator of torchvision's.
"""

import math
import time

import common
import numpy as np
import torch
from peers import train_child
from peers.train_boxes import clip, decode, make_anchors, propose, roi_max_pool, suppress
from peers.train_losses import DEVIATIONS, head_losses, rpn_losses, sample_rois
from peers.train_networks import BINS, STRIDE, Networks, all_arrays
from torch import nn
from torch.nn import functional as F

LOSSES = ("rpn_objectness", "rpn_box", "head_class", "head_box")


class Detector:
    """The networks, and what is done between them."""

    def __init__(self, settings: dict, weights: dict[str, np.ndarray]):
        self.settings, self.networks = settings, Networks(settings)
        self.networks.load(weights)
        self.mean, self.std = (torch.tensor(settings[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
        self.size, self.anchors = (settings["short"], settings["long"]), None

    def prepared(self, images: np.ndarray) -> torch.Tensor:
        """uint8 ``(B, H, W, 3)`` as the networks want it; all pictures have the shape of ``short`` x ``long``."""
        x = (torch.from_numpy(images).permute(0, 3, 1, 2).float() - self.mean) / self.std
        return F.interpolate(x, self.size, mode="bilinear").contiguous(memory_format=torch.channels_last)

    def regions(self, images: np.ndarray, limits: tuple[int, int]):
        """Features, RPN outputs, and of each picture its proposals and their scores."""
        features = self.networks.features(self.prepared(images))
        logits, deltas = self.networks.rpn(features)
        if self.anchors is None:
            own = self.settings["anchor_sizes"], self.settings["anchor_ratios"]
            self.anchors = make_anchors(*features.shape[2:], STRIDE, *own)
        with torch.no_grad():
            least, threshold = self.settings["proposal_min_size"], self.settings["proposal_nms"]
            found = [
                propose(*each, self.anchors, self.size, *limits, threshold, least)
                for each in zip(logits, deltas, strict=True)
            ]
        return features, logits, deltas, found

    def losses(self, images, boxes, classes, chances, given=None) -> tuple[dict[str, torch.Tensor], tuple]:
        """The four losses, and what the RPN gave.

        Args:
            images: uint8 ``(B, H, W, 3)``.
            boxes: of each picture ``(G, 4)``, in its pixels.
            classes: of each picture ``(G,)``.
            chances: of each picture a function from the number of proposals to the two arrays of random numbers, one
                for each anchor, and one for each proposal and object.
        """
        settings, regions = self.settings, self.regions(images, self.settings["train_proposals"])
        features, logits, deltas, found = regions
        factor = torch.tensor([self.size[1] / images.shape[2], self.size[0] / images.shape[1]] * 2)
        parts, samples = [], []
        for row, (proposals, _) in enumerate(found):
            proposals = proposals if given is None else given[row]
            own, label = torch.from_numpy(boxes[row]) * factor, torch.from_numpy(classes[row]).long()
            of_anchors, of_rois = chances[row](len(proposals))
            number, share = settings["head_samples"], settings["head_foreground"]
            rpn = rpn_losses(
                logits[row], deltas[row], self.anchors, own, self.size, of_anchors, settings["rpn_samples"]
            )
            parts.append(list(rpn))
            samples.append(sample_rois(proposals, own, label, of_rois, number, share))
        pooled = roi_max_pool(features, [rois for rois, _, _ in samples], BINS, STRIDE)
        counts = [len(rois) for rois, _, _ in samples]
        outputs = zip(*(each.split(counts) for each in self.networks.head(pooled)), strict=True)
        for part, output, (_, label, targets) in zip(parts, outputs, samples, strict=True):
            part += head_losses(*output, label, targets)
        means = (torch.stack(each).mean() for each in zip(*parts, strict=True))
        return dict(zip(LOSSES, means, strict=True)), regions[1:]

    @torch.no_grad()
    def detect(self, image: np.ndarray) -> dict[str, list]:
        """Boxes in pixels of ``image (H, W, 3)``, scores and classes, best first (Girshick 2015, section 3)."""
        settings = self.settings
        features, _, _, [(rois, _)] = self.regions(image[None], settings["test_proposals"])
        logits, deltas = self.networks.head(roi_max_pool(features, [rois], BINS, STRIDE))
        scores = logits.softmax(-1)[:, 1:]
        decoded = clip(decode(deltas[:, 1:] * torch.tensor(DEVIATIONS), rois[:, None]), self.size)
        boxes, best, classes = [], [], []
        for label in range(scores.shape[1]):
            passed = (scores[:, label] >= settings["score_threshold"]).nonzero()[:, 0]
            order = passed[scores[passed, label].argsort(descending=True)]
            kept = order[suppress(decoded[order, label], settings["nms_iou"], settings["max_detections"])]
            boxes.append(decoded[kept, label])
            best.append(scores[kept, label])
            classes.append(torch.full((len(kept),), label))
        boxes, best, classes = torch.cat(boxes), torch.cat(best), torch.cat(classes)
        order = best.argsort(descending=True)[: settings["max_detections"]]
        factor = torch.tensor([image.shape[1] / self.size[1], image.shape[0] / self.size[0]] * 2)
        found = {"boxes": boxes[order] * factor, "scores": best[order], "classes": classes[order]}
        return {name: each.tolist() for name, each in found.items()}


class Trainer:
    """SGD with momentum, weight decay of what is no vector, clipping, warm-up and half a cosine.

    With ``constant``, at that learning rate and without decay.
    """

    def __init__(self, detector: Detector, constant: float | None = None):
        self.detector, self.constant, settings = detector, constant, detector.settings
        decay = settings["weight_decay"] if constant is None else 0.0
        parameters = list(detector.networks.parameters())
        groups = [
            {"params": [each for each in parameters if each.ndim > 1], "weight_decay": decay},
            {"params": [each for each in parameters if each.ndim == 1], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.SGD(groups, lr=1.0, momentum=settings["momentum"])
        self.step = 0

    def rate(self) -> float:
        """The learning rate of this step."""
        if self.constant is not None:
            return self.constant
        settings = self.detector.settings
        warm = min(1.0, (self.step + 1) / (settings["warmup"] + 1))
        cosine = (1 + math.cos(math.pi * self.step / settings["steps"])) / 2
        return settings["learning_rate"] * warm * (settings["rate_end"] + (1 - settings["rate_end"]) * cosine)

    def train(self, images, boxes, classes, chances, given=None) -> dict[str, float]:
        """One step; gives its losses."""
        losses, _ = self.detector.losses(images, boxes, classes, chances, given)
        self.optimizer.zero_grad()
        sum(losses.values()).backward()
        nn.utils.clip_grad_norm_(self.detector.networks.parameters(), self.detector.settings["clipnorm"])
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        self.optimizer.step()
        self.step += 1
        return {name: float(value.detach()) for name, value in losses.items()}


class Pictures:
    """All training pictures in memory, shuffled anew each epoch, half of them mirrored."""

    def __init__(self, path, batch: int, seed: int):
        arrays = all_arrays(path)
        self.images, self.boxes, self.classes = arrays["images"], arrays["boxes"], arrays["classes"]
        self.batch, self.rng = batch, np.random.default_rng(seed)

    def picture(self, index: int, mirrored: bool = False):
        """Picture, boxes and classes."""
        image, real = self.images[index], self.classes[index] >= 0
        boxes = self.boxes[index][real]
        if mirrored:
            image = image[:, ::-1]
            width = image.shape[1]
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        return image, boxes, self.classes[index][real]

    def batches(self):
        """Without end."""
        while True:
            order = self.rng.permutation(len(self.images))
            for start in range(0, len(order) - self.batch + 1, self.batch):
                rows = [self.picture(index, self.rng.random() < 0.5) for index in order[start : start + self.batch]]
                images, boxes, classes = zip(*rows, strict=True)
                yield np.stack(images), boxes, classes


def drawn(anchors: int, objects: int):
    """Random numbers for one picture."""
    return lambda proposals: (torch.rand(anchors), torch.rand(proposals + objects))


def train(args) -> None:
    """Train from the start weights of ``--seed``, then detect in the test pictures."""
    settings, [trainer, batches] = start(args)
    wall, processor, losses = time.perf_counter(), time.process_time(), []
    for _, batch in zip(range(settings["steps"]), batches, strict=False):
        losses.append(sum(step(trainer, *batch).values()))
    seconds = {"wall": time.perf_counter() - wall, "processor": time.process_time() - processor}
    test = all_arrays(args.folder / "data-test.npz")["images"]
    detections = [trainer.detector.detect(image) for image in test]
    common.report(args.report, seconds=seconds, loss=float(np.mean(losses[-50:])), detections=detections)


def start(args):
    """Settings, and a trainer and its batches."""
    torch.manual_seed(args.seed)
    settings = train_child.settings_in(args.folder)
    detector = Detector(settings, all_arrays(args.folder / f"start-{args.seed}.npz"))
    pictures = Pictures(args.folder / "data-train.npz", settings["batch"], args.seed)
    return settings, (Trainer(detector), pictures.batches())


def step(trainer: Trainer, images, boxes, classes) -> dict[str, float]:
    """One step with random samples."""
    anchors = trainer.detector.settings["anchors"]
    return trainer.train(images, boxes, classes, [drawn(anchors, len(each)) for each in classes])


def speed(args) -> None:
    """Train while it is this side's turn."""
    _, [trainer, batches] = start(args)
    turns = train_child.Turns()
    for batch in batches:
        turns.before_step()
        step(trainer, *batch)


def check(args) -> None:
    """What comes of the same weights, pictures and random numbers: losses, gradients, steps, detections."""
    settings, given = train_child.settings_in(args.folder), all_arrays(args.folder / "check-given.npz")
    detector = Detector(settings, all_arrays(args.folder / "start-0.npz"))
    pictures = Pictures(args.folder / "data-train.npz", settings["batch"], 0)
    images, boxes, classes = zip(*(pictures.picture(index) for index in given["indices"]), strict=True)

    def chances(number: int):
        rpn, roi, most = given["chance_rpn"][number], given["chance_roi"][number], settings["train_proposals"][1]
        return [
            lambda proposals, row=row: (
                torch.from_numpy(rpn[row]),
                torch.from_numpy(np.concatenate([roi[row, :proposals], roi[row, most : most + len(classes[row])]])),
            )
            for row in range(len(classes))
        ]

    def proposals(number: int):
        # Ours, in our order: scores that are equal but for rounding may come in another, and other numbers go to them.
        return [torch.from_numpy(given[f"proposals/{number}/{row}"]) for row in range(len(classes))]

    batch = np.stack(images), boxes, classes
    losses, (logits, deltas, found) = detector.losses(*batch, chances(0), proposals(0))
    sum(losses.values()).backward()
    parameters = detector.networks.parameters_by_name()
    results = {f"gradient/{name}": each.grad.numpy().copy() for name, each in parameters.items()}
    results |= {"logits": logits.detach().numpy(), "deltas": deltas.detach().numpy()}
    own = {f"proposals/0/{row}": boxes.numpy() for row, (boxes, _) in enumerate(found)}
    np.savez(args.folder / "check-proposals.npz", **own)
    trainer = Trainer(detector, train_child.CHECKED_RATE)
    for number in range(len(given["chance_rpn"])):
        for name, value in trainer.train(*batch, chances(number), proposals(number)).items():
            results[f"loss/{number}/{name}"] = np.float32(value)
    results |= {f"after/{name}": each.detach().numpy() for name, each in parameters.items()}
    np.savez(args.folder / "check-torch.npz", **results)
    trained = train_child.settings_in(args.folder, "settings-trained.json")
    detector = Detector(trained, all_arrays(args.folder / "trained.npz"))
    test = all_arrays(args.folder / "data-test.npz")["images"]
    common.report(args.report, detections=[detector.detect(image) for image in test[: trained["pictures"]]])


def main() -> None:
    args = train_child.arguments(__doc__)
    torch.set_num_threads(args.threads)
    {"train": train, "speed": speed, "check": check}[args.job](args)


if __name__ == "__main__":
    main()
