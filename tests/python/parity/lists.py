"""The modules and optimizers that are compared with PyTorch's, by their names in module_db and optim_db."""

MODULES = set(
    """
    Linear Conv2d MultiheadAttention Embedding Dropout Flatten Identity ReLU GELU SiLU Sigmoid Tanh Softmax LogSoftmax
    BatchNorm1d BatchNorm2d LayerNorm MaxPool2d AvgPool2d AdaptiveAvgPool2d CrossEntropyLoss NLLLoss MSELoss
    """.split()
)

OPTIMIZERS = {"SGD", "Adam", "AdamW"}
