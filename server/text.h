// SPDX-License-Identifier: Apache-2.0
#ifndef HEADLIGHT_SERVER_TEXT_H_
#define HEADLIGHT_SERVER_TEXT_H_

#include "core/base/text.h"  // IWYU pragma: export

#endif  // HEADLIGHT_SERVER_TEXT_H_
