#pragma once

#include <cstdint>
#include <cstdio>
#include <string>

namespace tensorgrad::io {

// A file being read; every failure is an IOError that names it.
class Reader {
 public:
  Reader(std::string path, const char* op);
  ~Reader();
  Reader(const Reader&) = delete;
  Reader& operator=(const Reader&) = delete;
  uint64_t size() const { return size_; }
  const std::string& path() const { return path_; }
  // Exactly `bytes` bytes from here on.
  void read(void* to, size_t bytes);

 private:
  std::string path_;
  const char* op_;
  std::FILE* file_;
  uint64_t size_ = 0;
};

// A file that appears under its name whole or not at all: written beside it, synced, renamed by commit().
class AtomicWriter {
 public:
  AtomicWriter(std::string path, const char* op);
  ~AtomicWriter();
  AtomicWriter(const AtomicWriter&) = delete;
  AtomicWriter& operator=(const AtomicWriter&) = delete;
  void write(const void* from, size_t bytes);
  void commit();

 private:
  [[noreturn]] void fail(const char* what) const;
  std::string path_, temporary_;
  const char* op_;
  int fd_ = -1;
};

}  // namespace tensorgrad::io
