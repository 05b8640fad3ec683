"""The control plane: configuration into files, servers up and down, and whether they are well."""
