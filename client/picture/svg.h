// SPDX-License-Identifier: Apache-2.0
//
// Writes SVG: well-formed whatever the texts are. Lengths are CSS pixels, y points down.
#ifndef HEADLIGHT_CLIENT_PICTURE_SVG_H_
#define HEADLIGHT_CLIENT_PICTURE_SVG_H_

#include <cstdint>
#include <string>
#include <string_view>

namespace headlight::client {

// `text` for the content or an attribute of an XML or HTML element: markup escaped; what is not UTF-8, and
// characters that XML forbids, replaced by U+FFFD.
std::string EscapeXml(std::string_view text);

// Columns that `text` takes in a font of fixed width: 1 a character, 2 for wide ones of East Asia and emoji.
int64_t TextColumns(std::string_view text);

// `text` or, if it is wider than `max_columns`, its beginning and an ellipsis; never cuts within a character.
std::string Shorten(std::string_view text, int64_t max_columns);

// A length for an attribute: at most two decimals.
std::string FormatLength(double length);

struct Point {
  double x = 0;
  double y = 0;
};

enum class Anchor { kStart, kMiddle, kEnd };

struct TextStyle {
  Anchor anchor = Anchor::kStart;
  double rotation = 0;   // degrees, clockwise, about the point where the text is
  const char* css = "";  // a class of kSvgStyle
};

class SvgWriter {
 public:
  // Begins a picture with our style sheet and a background.
  SvgWriter(double width, double height, const std::string& title);

  // A filled rectangle; the hover text is left out if empty.
  void Rect(Point corner, double width, double height, const std::string& fill,
            const std::string& hover = "");

  // A rectangle that is only an edge.
  void Frame(Point corner, double width, double height);

  void Line(Point from, Point to);

  // The point is on the base line. The hover text is left out if empty.
  void Text(Point at, const std::string& text, const TextStyle& style = {}, const std::string& hover = "");

  // Elements until EndGroup belong together; `css` is a class.
  void BeginGroup(const char* css);
  void EndGroup();

  std::string Finish() &&;

 private:
  std::string svg_;
};

// Width of a character of our style's font at size 1: DejaVu Sans Mono and its kin have 0.6.
inline constexpr double kCharWidth = 0.602;

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_PICTURE_SVG_H_
