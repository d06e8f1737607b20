// SPDX-License-Identifier: Apache-2.0
#include <iostream>

#include "client/cli/cli.h"

int main(int argc, char** argv) { return headlight::client::RunCli(argc, argv, std::cout, std::cerr); }
