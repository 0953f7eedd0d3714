"""Cityscapes semantic segmentation of corrupted images, linear probe of the frozen backbone; mIoU of 19 classes.

Purpose: How much of what the linear probe finds is left when images are noisy, blurred, bright, flat or compressed?
Cost: that of `frozen_city_seg_linear`, and each val image passes through the backbone 15 times more.
Memory: that of `frozen_city_seg_linear`, and 15 confusion matrices of 19 x 19 x 8 bytes for each val image.
Metric: mIoU (%) of the val set at the images' own size, 255 ignored, mean of five corruptions with three strengths;
also for each corruption and for the clean images.
The probe is chosen and fitted on clean images. Noise, blur, brightness, contrast and JPEG apply to the scaled picture;
`bench/probes/corruptions.py` has the formulas. After Hendrycks and Dietterich (ICLR 2019), with our own strengths.
"""

from transfer_configs.parts import probes

protocol = dict(
    id="frozen_city_seg_corrupted",
    version=1,
    title="Cityscapes semantic segmentation of corrupted images, linear probe",
    short_title="City seg corrupted",
    track="frozen",
    task="semantic segmentation",
    dataset="cityscapes",
    headline="mIoU",
    plan=probes.robustness(size=(192, 384), classes=19),
)
