#include "io/file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>

#include "core/check.h"

namespace tensorgrad::io {

Reader::Reader(std::string path, const char* op)
    : path_(std::move(path)), op_(op), file_(std::fopen(path_.c_str(), "rb")) {
  TENSORGRAD_CHECK(file_, IOError, op_, ": cannot open '", path_, "': ", std::strerror(errno));
  struct stat info {};
  const bool known = fstat(fileno(file_), &info) == 0;
  if (!known || !S_ISREG(info.st_mode)) {
    const bool folder = known && S_ISDIR(info.st_mode);
    std::fclose(file_);
    file_ = nullptr;
    TENSORGRAD_RAISE(IOError, op_, ": '", path_, folder ? "' is a folder" : "' is not a regular file");
  }
  size_ = static_cast<uint64_t>(info.st_size);
}

Reader::~Reader() {
  if (file_) std::fclose(file_);
}

void Reader::read(void* to, size_t bytes) {
  const size_t got = std::fread(to, 1, bytes, file_);
  TENSORGRAD_CHECK(got == bytes, IOError, op_, ": '", path_, "' ends early: ", bytes - got, " bytes are missing",
                   std::ferror(file_) ? std::string(" (") + std::strerror(errno) + ")" : std::string());
}

AtomicWriter::AtomicWriter(std::string path, const char* op) : path_(std::move(path)), op_(op) {
  // A rename would put a file in the place of a device or a pipe.
  struct stat there {};
  if (stat(path_.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    TENSORGRAD_RAISE(IOError, op_, ": cannot write '", path_,
                     S_ISDIR(there.st_mode) ? "': it is a folder" : "': it is not a regular file");
  }
  static std::atomic<unsigned> counter{0};
  temporary_ = path_ + ".tmp" + std::to_string(getpid()) + "." + std::to_string(counter.fetch_add(1));
  fd_ = open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd_ < 0) {
    temporary_.clear();
    fail("cannot write");
  }
}

AtomicWriter::~AtomicWriter() {
  if (fd_ >= 0) close(fd_);
  if (!temporary_.empty()) unlink(temporary_.c_str());
}

void AtomicWriter::fail(const char* what) const {
  const int cause = errno;
  TENSORGRAD_RAISE(IOError, op_, ": ", what, " '", path_, "': ", std::strerror(cause),
                   cause == ENOSPC || cause == EDQUOT || cause == EFBIG ? "; what was there before is untouched" : "");
}

void AtomicWriter::write(const void* from, size_t bytes) {
  const char* p = static_cast<const char*>(from);
  while (bytes > 0) {
    const ssize_t n = ::write(fd_, p, bytes);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail("cannot write");
    p += n;
    bytes -= static_cast<size_t>(n);
  }
}

void AtomicWriter::commit() {
  if (fsync(fd_) != 0 && errno != EINVAL && errno != EROFS) fail("cannot sync");
  const int fd = fd_;
  fd_ = -1;
  if (close(fd) != 0) fail("cannot write");
  if (rename(temporary_.c_str(), path_.c_str()) != 0) fail("cannot replace");
  temporary_.clear();
  const size_t slash = path_.rfind('/');
  const std::string folder = slash == std::string::npos ? "." : slash == 0 ? "/" : path_.substr(0, slash);
  if (const int dir = open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); dir >= 0) {
    fsync(dir);  // the rename itself; some file systems refuse, and the file is whole either way
    close(dir);
  }
}

}  // namespace tensorgrad::io
