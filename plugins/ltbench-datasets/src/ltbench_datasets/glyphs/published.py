"""Fingerprints of images that were published: planning then draws nothing, and a machine that draws others is found out."""

from ltbench_datasets.glyphs.recipe import Recipe

PUBLISHED: dict[Recipe, str] = {
    Recipe("benchmark", 100, 500, 50, 100, 0): "21e8a48f1e10683c492ef8fd76bcb5d17952dff73a921cf652af0f475dc4e7a3",
    Recipe("pretrain", 300, 300, 10, 10, 0): "6924934a244f9e137c1b558eacb13ca73deb3b0ca53a1e1159a32d9da3d75e41",
    Recipe("benchmark", 20, 200, 50, 100, 0): "d7302bc0750a6953af2fe5c85f50ce26c0aea1f6cd3750f16598dfe574c9710f",
    Recipe("benchmark", 5, 20, 50, 100, 0): "af35211e1df0a21e155d156b4183e40889ab9e0c8c244520a3d811039123b1b0",
    Recipe("pretrain", 5, 20, 10, 10, 0): "c5ba5ba57410ae4a9017af65bdab14639008be2d78cc52a01b44707819b4e157",
}
