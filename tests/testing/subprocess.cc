// SPDX-License-Identifier: Apache-2.0
#include "tests/testing/subprocess.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>
#include <thread>

extern char** environ;

namespace headlight::testing {
namespace {

constexpr auto kPollInterval = std::chrono::milliseconds(5);

}  // namespace

Subprocess::Subprocess(const std::vector<std::string>& argv) {
  std::string path = ::testing::TempDir() + "/subprocess.XXXXXX";
  const int output = mkstemp(path.data());
  output_path_ = path;
  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
  const int error = posix_spawn(&pid_, arguments[0], &actions, nullptr, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  close(output);
  if (error != 0) {
    ADD_FAILURE() << "cannot start " << argv[0] << ": " << strerror(error);
    pid_ = -1;
  }
}

Subprocess::~Subprocess() {
  if (pid_ > 0 && Wait(std::chrono::seconds(0)) == -1) {
    Signal(SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  unlink(output_path_.c_str());
}

void Subprocess::Signal(int signal) const {
  if (pid_ > 0) kill(pid_, signal);
}

int Subprocess::Wait(std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (pid_ > 0) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
      pid_ = -1;
    } else if (std::chrono::steady_clock::now() >= deadline) {
      return -1;
    } else {
      std::this_thread::sleep_for(kPollInterval);
    }
  }
  return exit_code_;
}

std::string Subprocess::Output() const {
  std::ostringstream text;
  text << std::ifstream(output_path_).rdbuf();
  return text.str();
}

std::string Subprocess::WaitForOutput(const std::string& marker, std::chrono::seconds timeout) {
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (std::chrono::steady_clock::now() < deadline) {
    const std::string output = Output();
    const size_t found = output.find(marker);
    const size_t end = output.find('\n', found);
    if (found != std::string::npos && end != std::string::npos) {
      return output.substr(found + marker.size(), end - found - marker.size());
    }
    if (Wait(std::chrono::seconds(0)) != -1) break;
    std::this_thread::sleep_for(kPollInterval);
  }
  return "";
}

RunResult RunProgram(const std::vector<std::string>& argv, std::chrono::seconds timeout) {
  Subprocess process(argv);
  const int exit_code = process.Wait(timeout);
  return {exit_code, process.Output()};
}

}  // namespace headlight::testing
