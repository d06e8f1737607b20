// SPDX-License-Identifier: Apache-2.0
//
// Runs programs for end-to-end tests: bounded waits, captured output, never left behind.
#ifndef HEADLIGHT_TESTS_TESTING_SUBPROCESS_H_
#define HEADLIGHT_TESTS_TESTING_SUBPROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <string>
#include <vector>

namespace headlight::testing {

// A child process whose standard output and error go to one file. Killed, if it still runs, by the
// destructor.
class Subprocess {
 public:
  // argv[0] is the path of the program. Aborts the test if it cannot be started.
  explicit Subprocess(const std::vector<std::string>& argv);
  ~Subprocess();
  Subprocess(const Subprocess&) = delete;
  Subprocess& operator=(const Subprocess&) = delete;

  pid_t pid() const { return pid_; }
  void Signal(int signal) const;

  // The exit code; 128 + N if signal N ended it; -1 if it still runs after `timeout`.
  int Wait(std::chrono::seconds timeout);

  // What it has printed so far.
  std::string Output() const;

  // The rest of the first line that contains `marker`, from behind the marker; empty if it did not come in
  // time.
  std::string WaitForOutput(const std::string& marker, std::chrono::seconds timeout);

 private:
  std::string output_path_;
  pid_t pid_ = -1;
  int exit_code_ = -1;
};

// Runs a program to its end.
struct RunResult {
  int exit_code = -1;  // as Subprocess::Wait
  std::string output;
};
RunResult RunProgram(const std::vector<std::string>& argv,
                     std::chrono::seconds timeout = std::chrono::seconds(60));

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_TESTING_SUBPROCESS_H_
