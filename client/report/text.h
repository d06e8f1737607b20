// SPDX-License-Identifier: Apache-2.0
//
// How numbers, tables and messages are printed for people, and JSON for scripts.
#ifndef HEADLIGHT_CLIENT_REPORT_TEXT_H_
#define HEADLIGHT_CLIENT_REPORT_TEXT_H_

#include <chrono>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace headlight::client {

std::string FormatMs(std::chrono::nanoseconds duration);       // "1.234 ms"
std::string FormatBytes(int64_t size_bytes);                   // "512 B", "98.3 kB", "1.2 GB": powers of 1000
std::string FormatSeconds(std::chrono::nanoseconds duration);  // "10.0 s"

// Two blanks a level, a newline at the end. Bytes that are no UTF-8 become U+FFFD.
std::string FormatJson(const nlohmann::ordered_json& json);

// `text` of a server or a file, safe to print: control characters, which a terminal would obey, and bytes
// that are no UTF-8 become "\xNN".
std::string Printable(const std::string& text);

// Lines the columns of `rows` up, two blanks between them, a newline after each row. Cells are made
// Printable.
std::string FormatTable(const std::vector<std::vector<std::string>>& rows);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_REPORT_TEXT_H_
