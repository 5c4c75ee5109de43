"""PyTorch as the judge: its own catalogues of samples (op_db, module_db, optim_db) run against tensorgrad.

make parity                                  everything, with a report
make parity ARGS="--only conv2d --verbose"   some operations, every failure in full
"""
