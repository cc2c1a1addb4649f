"""A network that trains in no time: a grey image of 28 pixels, 16 patches."""

from dacsm.config.params import Model

MODEL = Model(
    name="vit_tiny_patch16_224",
    weights="none",
    image_size=28,
    resize=28,
    channels=1,
    mean=(0.1,),
    std=(0.3,),
    patch_size=7,
    dim=32,
    depth=3,
    heads=2,
    drop_path=0,
)
