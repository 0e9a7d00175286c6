"""What words do inside the network: attention maps, and the analyses of the TADP supplement's Figures S1 to S4."""
