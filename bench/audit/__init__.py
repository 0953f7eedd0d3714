"""What in somebody's own mmdet, mmsegmentation or detectron2 config departs from a protocol."""
