"""CDTrans (arXiv 2109.06165), and what DACSM adds to it in `parts`, each part imported only where it is used."""

from dacsm.methods.cdtrans.method import CDTrans as Kind

__all__ = ["Kind"]
