"""PASCAL VOC's twenty classes: apart from the models, so that entries of weights can name them without Keras."""

# In the order of ChainerCV, py-faster-rcnn and the devkit: class k of a published file is number k - 1 here.
VOC_CLASSES = (
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
