// SPDX-License-Identifier: Apache-2.0
#include "client/picture/page.h"

#include <cstdint>
#include <utility>

#include "absl/strings/escaping.h"
#include "absl/strings/str_replace.h"
#include "client/picture/svg.h"

namespace headlight::client {

std::string ScriptJson(const nlohmann::ordered_json& data) {
  std::string text = data.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
  // Only strings of JSON have this character, and there it may be written so.
  return absl::StrReplaceAll(text, {{"<", "\\u003c"}});
}

std::string Base64(std::string_view bytes) {
  std::string text;
  absl::Base64Escape({bytes.data(), bytes.size()}, &text);
  return text;
}

std::string HtmlPage(const std::string& title, const nlohmann::ordered_json& data,
                     const std::string& script) {
  // One pass over the template: what is put in is never looked at for more places.
  return absl::StrReplaceAll(kPageHtml, {{"{{title}}", EscapeXml(title)},
                                         {"{{style}}", kPageCss},
                                         {"{{data}}", ScriptJson(data)},
                                         {"{{script}}", script}});
}

}  // namespace headlight::client
