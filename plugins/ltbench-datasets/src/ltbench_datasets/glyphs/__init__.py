"""Characters drawn in many fonts, poses and conditions: the datasets glyphs and glyphs-pretrain."""
