// SPDX-License-Identifier: Apache-2.0
//
// As much of an XML parser as tests of SVG want.
#ifndef HEADLIGHT_TESTS_CLIENT_PICTURE_XML_CHECKER_H_
#define HEADLIGHT_TESTS_CLIENT_PICTURE_XML_CHECKER_H_

#include <regex>
#include <string>
#include <string_view>
#include <vector>

namespace headlight::testing {

// What keeps `xml` from being well-formed, empty if nothing does: one root element, start and end tags that
// match, quoted attributes without repeats, no stray markup, only the five named and decimal references.
inline std::string XmlError(const std::string& xml) {
  static const std::regex kTag(R"(<(/?)([A-Za-z][\w:-]*)((?:\s+[\w:-]+="[^"<]*")*)\s*(/?)>)");
  static const std::regex kAttribute(R"(([\w:-]+)=")");
  static const std::regex kReference(R"(&(?!(?:amp|lt|gt|quot|#39);))");
  if (std::regex_search(xml, kReference)) return "an unknown reference";
  std::vector<std::string> open;
  int roots = 0;
  size_t at = 0;
  while (true) {
    const size_t tag_at = xml.find('<', at);
    const std::string text = xml.substr(at, tag_at - at);
    if (open.empty() && text.find_first_not_of(" \n") != std::string::npos)
      return "text outside of the root: " + text;
    if (tag_at == std::string::npos) break;
    std::smatch tag;
    if (!std::regex_search(xml.begin() + static_cast<std::ptrdiff_t>(tag_at), xml.end(), tag, kTag,
                           std::regex_constants::match_continuous)) {
      return "not a tag: " + xml.substr(tag_at, 60);
    }
    at = tag_at + static_cast<size_t>(tag.length());
    if (tag[1].length() > 0) {
      if (open.empty() || open.back() != tag[2]) return "an end without a start: " + tag.str();
      open.pop_back();
      continue;
    }
    roots += open.empty() ? 1 : 0;
    std::vector<std::string> names;
    const std::string attributes = tag[3];
    for (std::sregex_iterator it(attributes.begin(), attributes.end(), kAttribute), end; it != end; ++it) {
      for (const std::string& name : names) {
        if (name == (*it)[1]) return "an attribute twice: " + tag.str();
      }
      names.push_back((*it)[1]);
    }
    if (tag[4].length() == 0) open.push_back(tag[2]);
  }
  if (!open.empty()) return "no end of " + open.back();
  return roots == 1 ? "" : "not one root";
}

// How often `part` is in `text`, counted without overlaps.
inline int Count(std::string_view text, std::string_view part) {
  int count = 0;
  for (size_t at = text.find(part); at != std::string_view::npos; at = text.find(part, at + part.size()))
    ++count;
  return count;
}

}  // namespace headlight::testing

#endif  // HEADLIGHT_TESTS_CLIENT_PICTURE_XML_CHECKER_H_
