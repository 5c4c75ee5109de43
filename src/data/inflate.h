#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tensorgrad/export.h"

namespace tensorgrad::data {

// The content of a gzip file (RFC 1951, 1952), checksums and lengths verified. IOError that starts with `where` for
// anything that is wrong, or as soon as the content grows beyond `limit` bytes.
TENSORGRAD_API std::vector<uint8_t> gunzip(const uint8_t* data, size_t size, uint64_t limit, const std::string& where);

}  // namespace tensorgrad::data
