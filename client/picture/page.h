// SPDX-License-Identifier: Apache-2.0
//
// Pages that need nothing but themselves: style, script and data are in one file, which draws itself wherever
// it is opened, without a network. Their scripts and styles are files of client/assets.
#ifndef HEADLIGHT_CLIENT_PICTURE_PAGE_H_
#define HEADLIGHT_CLIENT_PICTURE_PAGE_H_

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace headlight::client {

// client/assets as they are.
extern const char kPageHtml[];
extern const char kPageCss[];
extern const char kPlotJs[];
extern const char kLoadDataJs[];
extern const char kLoadPlotsJs[];
extern const char kLoadTablesJs[];
extern const char kLoadReportJs[];
extern const char kAttentionMapsJs[];

// The page `title` that runs `script` over `data`. When all is drawn the script sets the attribute data-drawn
// of the root element to "yes"; when it fails, the page shows why instead.
std::string HtmlPage(const std::string& title, const nlohmann::ordered_json& data, const std::string& script);

// `data` in a form that can stand within <script>: no text of it ends the element or begins a comment.
std::string ScriptJson(const nlohmann::ordered_json& data);

std::string Base64(std::string_view bytes);

}  // namespace headlight::client

#endif  // HEADLIGHT_CLIENT_PICTURE_PAGE_H_
