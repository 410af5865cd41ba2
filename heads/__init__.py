"""The parts every R-CNN is built of: anchors, RPN, proposals, RoI pooling, targets, losses, post-processing.

Nothing here trains, reads files or knows a particular network. Model code is written in ``keras.ops``, so that it
runs on TensorFlow and on JAX; where TensorFlow has a faster operator it is chosen in the one file that needs it.

Shape glossary, the same letters in every docstring of the package:

====== =====================================================================================================
letter meaning
====== =====================================================================================================
B      images in a batch
H, W   height and width of an image, in pixels
Hf, Wf height and width of a feature map, in cells; a cell spans ``stride`` pixels
C      channels
G      ground-truth boxes an image, padded to the same number; padding has class -1
k      anchors a cell
A      anchors an image, ``Hf * Wf * k``, in row-major order of cells, then of anchors
P      proposals an image: what the RPN keeps after NMS
R      RoIs an image: proposals that the box head looks at (sampled in training, all P at test)
L      scales of an image pyramid
K      classes without the background; the head's class 0 is the background, class ``c`` is ``c + 1`` there
D      detections an image: what is left at the end
====== =====================================================================================================

Boxes are ``(x1, y1, x2, y2)``: continuous pixels, so that a box's width is ``x2 - x1``. Functions that also know the
inclusive convention of the original releases (width ``x2 - x1 + 1``) say so and take ``plus_one=True``.
"""
