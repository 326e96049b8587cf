"""Universal segmentation without labels: UniAP pseudo-masks and the S2-UniSeg model."""
