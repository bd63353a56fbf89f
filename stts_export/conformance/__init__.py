"""Our models against tensors of the STTS authors' own code: the one check that reaches outside of this project."""
