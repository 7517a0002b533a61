"""What is trained? Matrix factorisation, iALS, EASE, and the controls that learn nothing."""
