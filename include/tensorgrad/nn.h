#pragma once

// Networks: modules and containers, layers and losses, initialisation, and the functions that the layers are made of.

#include "tensorgrad/nn/functional.h"
#include "tensorgrad/nn/init.h"
#include "tensorgrad/nn/layers.h"
#include "tensorgrad/nn/module.h"
