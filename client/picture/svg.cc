// SPDX-License-Identifier: Apache-2.0
#include "client/picture/svg.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace headlight::client {
namespace {

constexpr char32_t kReplacement = 0xfffd;
constexpr std::string_view kReplacementUtf8 = "\xef\xbf\xbd";

// Texts and lines follow the reader's light or dark screen; colours of values stay as they are.
constexpr char kSvgStyle[] =
    "svg{--paper:#fff;--ink:#1b1f24;--faint:#59636e;--edge:#8c959f;color-scheme:light dark;"
    "background:var(--paper)}"
    "@media(prefers-color-scheme:dark){svg{--paper:#15181c;--ink:#e6e9ed;--faint:#a0a9b3;--edge:#6b7480}}"
    ".paper{fill:var(--paper)}"
    "text{font:11px 'DejaVu Sans Mono',ui-monospace,Menlo,Consolas,monospace;fill:var(--ink);white-space:pre}"
    ".title{font-size:16px;font-weight:bold}.faint{fill:var(--faint)}.axis{font-size:12px}"
    ".small{font-size:9px}.on-dark{fill:#fff}.on-pale{fill:#111}"
    ".bar rect,.cells rect{shape-rendering:crispEdges}.cells rect:hover{stroke:#d62828;stroke-width:2}"
    ".frame{fill:none;stroke:var(--edge)}line{stroke:var(--edge)}";

// The character that `text` begins with, which is taken off; U+FFFD if its first byte begins none.
char32_t TakeCharacter(std::string_view& text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char first = byte(0);
  const size_t length = first < 0x80       ? 1
                        : first >> 5 == 6  ? 2
                        : first >> 4 == 14 ? 3
                        : first >> 3 == 30 ? 4
                                           : 0;
  constexpr char32_t kLeast[] = {0, 0, 0x80, 0x800, 0x10000};
  char32_t code = length < 2 ? first : first & (0x7fu >> length);
  bool valid = length > 0 && length <= text.size();
  for (size_t i = 1; valid && i < length; ++i) {
    valid = byte(i) >> 6 == 2;
    code = code << 6 | (byte(i) & 0x3f);
  }
  valid = valid && code >= kLeast[length] && code <= 0x10ffff && (code < 0xd800 || code > 0xdfff);
  text.remove_prefix(valid ? length : 1);
  return valid ? code : kReplacement;
}

bool AllowedInXml(char32_t code) {
  return code == '\t' || code == '\n' || code == '\r' || (code >= 0x20 && code != 0xfffe && code != 0xffff);
}

bool IsWide(char32_t code) {
  return (code >= 0x1100 && code <= 0x115f) || (code >= 0x2e80 && code <= 0xa4cf) ||
         (code >= 0xac00 && code <= 0xd7a3) || (code >= 0xf900 && code <= 0xfaff) ||
         (code >= 0xfe30 && code <= 0xfe6f) || (code >= 0xff00 && code <= 0xff60) ||
         (code >= 0x1f300 && code <= 0x1faff) || (code >= 0x20000 && code <= 0x3fffd);
}

std::string Hover(const std::string& text) {
  return text.empty() ? "" : absl::StrCat("<title>", EscapeXml(text), "</title>");
}

std::string RectAttributes(Point corner, double width, double height) {
  return absl::StrCat("x=\"", FormatLength(corner.x), "\" y=\"", FormatLength(corner.y), "\" width=\"",
                      FormatLength(width), "\" height=\"", FormatLength(height), "\"");
}

}  // namespace

std::string EscapeXml(std::string_view text) {
  std::string escaped;
  escaped.reserve(text.size());
  while (!text.empty()) {
    const std::string_view before = text;
    const char32_t code = TakeCharacter(text);
    const std::string_view bytes = before.substr(0, before.size() - text.size());
    if (code == '&') {
      escaped += "&amp;";
    } else if (code == '<') {
      escaped += "&lt;";
    } else if (code == '>') {
      escaped += "&gt;";
    } else if (code == '"') {
      escaped += "&quot;";
    } else if (code == '\'') {
      escaped += "&#39;";
    } else if (code == kReplacement || !AllowedInXml(code)) {
      escaped += kReplacementUtf8;
    } else {
      escaped += bytes;
    }
  }
  return escaped;
}

int64_t TextColumns(std::string_view text) {
  int64_t columns = 0;
  while (!text.empty()) columns += IsWide(TakeCharacter(text)) ? 2 : 1;
  return columns;
}

std::string Shorten(std::string_view text, int64_t max_columns) {
  if (TextColumns(text) <= max_columns) return std::string(text);
  std::string_view rest = text;
  size_t kept = 0;
  int64_t columns = 0;
  while (!rest.empty()) {
    columns += IsWide(TakeCharacter(rest)) ? 2 : 1;
    if (columns > max_columns - 1) break;  // the last column is the ellipsis's
    kept = text.size() - rest.size();
  }
  return std::string(text.substr(0, kept)) + "\u2026";
}

std::string FormatLength(double length) {
  std::string text = absl::StrFormat("%.2f", length);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text;
}

SvgWriter::SvgWriter(double width, double height, const std::string& title) {
  const std::string w = FormatLength(width), h = FormatLength(height);
  svg_ = absl::StrCat("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"", w, "\" height=\"", h,
                      "\" viewBox=\"0 0 ", w, " ", h, "\" role=\"img\">\n", Hover(title), "\n<style>",
                      kSvgStyle, "</style>\n<rect class=\"paper\" width=\"", w, "\" height=\"", h, "\"/>\n");
}

void SvgWriter::Rect(Point corner, double width, double height, const std::string& fill,
                     const std::string& hover) {
  absl::StrAppend(&svg_, "<rect ", RectAttributes(corner, width, height), " fill=\"", EscapeXml(fill), "\"");
  absl::StrAppend(&svg_, hover.empty() ? "/>\n" : absl::StrCat(">", Hover(hover), "</rect>\n"));
}

void SvgWriter::Frame(Point corner, double width, double height) {
  absl::StrAppend(&svg_, "<rect class=\"frame\" ", RectAttributes(corner, width, height), "/>\n");
}

void SvgWriter::Line(Point from, Point to) {
  absl::StrAppend(&svg_, "<line x1=\"", FormatLength(from.x), "\" y1=\"", FormatLength(from.y), "\" x2=\"",
                  FormatLength(to.x), "\" y2=\"", FormatLength(to.y), "\"/>\n");
}

void SvgWriter::Text(Point at, const std::string& text, const TextStyle& style, const std::string& hover) {
  const std::string x = FormatLength(at.x), y = FormatLength(at.y);
  absl::StrAppend(&svg_, "<text x=\"", x, "\" y=\"", y, "\"");
  if (style.anchor == Anchor::kMiddle) svg_ += " text-anchor=\"middle\"";
  if (style.anchor == Anchor::kEnd) svg_ += " text-anchor=\"end\"";
  if (style.rotation != 0) {
    absl::StrAppend(&svg_, " transform=\"rotate(", FormatLength(style.rotation), " ", x, " ", y, ")\"");
  }
  if (*style.css != '\0') absl::StrAppend(&svg_, " class=\"", style.css, "\"");
  absl::StrAppend(&svg_, ">", EscapeXml(text), Hover(hover), "</text>\n");
}

void SvgWriter::BeginGroup(const char* css) { absl::StrAppend(&svg_, "<g class=\"", css, "\">\n"); }

void SvgWriter::EndGroup() { svg_ += "</g>\n"; }

std::string SvgWriter::Finish() && {
  svg_ += "</svg>\n";
  return std::move(svg_);
}

}  // namespace headlight::client
