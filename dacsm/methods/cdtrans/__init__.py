"""CDTrans (arXiv 2109.06165), and the parts that DACSM adds to it."""
