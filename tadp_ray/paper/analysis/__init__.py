"""Attention maps, and the analyses of Figures S1 to S4 in the TADP supplement."""
