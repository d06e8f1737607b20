#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What of a page counts as a command, and which page nobody can run."""
import unittest

from blocks import PageError, matches, read_blocks, split_commands


def commands(page):
    return [(command.line, command.text, command.wanted)
            for block in read_blocks(page) for command in split_commands(block)]


class BlocksTest(unittest.TestCase):

    def test_each_line_is_a_command(self):
        self.assertEqual(commands('text\n```sh\nls /\n\n# why\npwd  # where\n```\n'),
                         [(3, 'ls /', None), (6, 'pwd  # where', None)])

    def test_lines_that_go_on_belong_together(self):
        page = '```sh\ncat <<END |\n`ls\nEND\n  sort\na \\\n  b\nif true; then\n  c\nfi\n```\n'
        self.assertEqual([text for _, text, _ in commands(page)],
                         ['cat <<END |\n`ls\nEND\n  sort', 'a \\\n  b', 'if true; then\n  c\nfi'])

    def test_a_console_shows_what_commands_print(self):
        self.assertEqual(commands('```console\n$ a\none\ntwo\n$ b \\\n>   c\n$ d\n...\n```\n'),
                         [(2, 'a', 'one\ntwo\n'), (5, 'b \\\n  c', ''), (7, 'd', '...\n')])

    def test_a_block_says_what_it_needs(self):
        blocks = read_blocks('```sh docker\n```\n- a\n  ```toml\n  ```\n')
        self.assertEqual([(block.language, block.need) for block in blocks], [('sh', 'docker'), ('toml', '')])

    def test_a_block_that_says_nothing_is_an_error_with_its_line(self):
        for page in ('a\n```\nls\n```\n', 'a\n```sh mars\nls\n```\n', 'a\n```cobol\n```\n', 'a\n```toml docker\n```\n',
                     'a\n```sh\nls\n', 'a\n```text\n  headlight attend\n```\n', 'a\n```text\n$ ls\n```\n'):
            with self.assertRaises(PageError, msg=page) as caught:
                read_blocks(page)
            self.assertEqual(caught.exception.line, 2, page)

    def test_a_command_that_does_not_end_is_an_error(self):
        for page in ('```sh\na \\\n```\n', '```sh\necho "\n```\n', '```sh\ncat <<END\nEN\n```\n',
                     '```console\nls\n```\n'):
            with self.assertRaises(PageError, msg=page):
                commands(page)

    def test_three_dots_stand_for_anything(self):
        self.assertTrue(matches('a ... c\n...\nend\n', 'a b c  \n1\n2\nend\n\n'))
        self.assertTrue(matches('a (1+1)?\n', 'a (1+1)?\n'))
        self.assertFalse(matches('a ... c\n', 'a b d\n'))
        self.assertFalse(matches('a\n', 'a\nb\n'))


if __name__ == '__main__':
    unittest.main()
