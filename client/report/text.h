// SPDX-License-Identifier: Apache-2.0
//
// How the commands print numbers and tables for people.
#ifndef HEADLIGHT_CLIENT_REPORT_TEXT_H_
#define HEADLIGHT_CLIENT_REPORT_TEXT_H_

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

namespace headlight::client {

std::string FormatMs(std::chrono::nanoseconds duration);       // "1.234 ms"
std::string FormatBytes(int64_t size_bytes);                   // "512 B", "98.3 kB", "1.2 GB": powers of 1000
std::string FormatSeconds(std::chrono::nanoseconds duration);  // "10.0 s"

// Lines the columns of `rows` up, two blanks between them, a newline after each row.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_REPORT_TEXT_H_
