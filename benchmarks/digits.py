"""The detector that ships, measured on scenes of digits that its training never saw.

Example:
    python benchmarks/digits.py --write
"""

import common

SCENES = 200
MODEL = "faster_rcnn_resnet18"


def main() -> None:
    parser = common.arguments(__doc__)
    args = parser.parse_args()
    common.pin(args.cores)

    import zoo
    from zoo.datasets.digits import digit_scenes

    model = zoo.get(MODEL, weights="digits")
    entry = zoo.info(MODEL).entry("digits")
    measured = zoo.evaluate(model, digit_scenes("test", SCENES), batch_size=1)
    result = measured.result
    rows = [[f"**{result.map:.3f}**", *(f"{ap:.3f}" for ap in result.ap)]]
    text = (
        f"`{MODEL}`, weights `digits` ({entry.size / 1e6:.1f} MB; {entry.source}), {SCENES} test scenes, VOC 2007 "
        f"metric (eleven points), IoU above .5; {measured.images_per_second:.1f} pictures a second:\n\n"
        f"{common.table(['mAP', *result.classes], rows)}"
    )
    common.publish("digits", text, args.write)


if __name__ == "__main__":
    main()
