"""Table 5 of Fast R-CNN (Girshick 2015): which layers have to be trained?

python examples/reproduce/table5.py --data VOCdevkit/VOC2007 --write
ZOO_SHARED_DATA=DATA python examples/reproduce/table5.py --small --write
"""

from reproducing import Study, arguments, points, table, training_seconds

# First layer trained, and the paper's mAP on VOC 2007 test.
PAPER = {"fc6": 61.4, "conv3_1": 66.9, "conv2_1": 67.2}
SMALL = ("fc6", "conv4", "all")  # of a ResNet-18; conv4 is the last stage before the RoIs


def main() -> None:
    args = arguments(__doc__.splitlines()[0], ("fast_rcnn_vgg16",))
    study, rows = Study("table5", args), []
    for start in SMALL if args.small else PAPER:
        # What is trained anyway serves all tables.
        whole = start == ("all" if args.small else "conv3_1")
        words = () if whole else ("--train-from", start)
        run = study.train(f"{args.model[0]}-joint" if whole else f"{args.model[0]}-from-{start}", *words)
        score, seconds = study.measure(run), training_seconds(run)
        rows.append((start, points(score["map"]), f"{seconds / 60:.1f}", PAPER.get(start, "")))
    shown = table(("First layer trained", "mAP", "Training, minutes", "Paper, VGG-16 on VOC07"), rows)
    study.publish("Table 5: which layers to train", shown, f"{NOTE}\n\n{NOTE_SMALL}" if args.small else NOTE)


NOTE = (
    "The paper: training the convolutions from conv3_1 on is worth 5.5 points, training those before costs time for "
    "little (12.5 against 9.5 hours for +0.3)."
)
NOTE_SMALL = (
    "Digits are further from cells than ImageNet's pictures are from VOC's, so that fixed convolutions should lose "
    "more here; as in the paper, training fewer layers is quicker."
)


if __name__ == "__main__":
    main()
