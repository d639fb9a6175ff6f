"""Named, versioned protocols, one TOML file each."""
