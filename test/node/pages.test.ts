import { existsSync, globSync, readFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { expect, test } from 'vitest'

const pages = globSync(['*.md', 'docs/**/*.md']).filter((page) => page !== 'CHANGELOG.md')
const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }

test('there are pages to look at', () => expect(pages.length).toBeGreaterThan(20))

test.each(pages)('%s names only files, folders and commands that there are', (page) => {
  const text = readFileSync(page, 'utf8')
  const folders = 'src|adapters|migrations|test|sandbox|demo|docs|tools|bench'
  const paths = [...text.matchAll(new RegExp(`\`((?:${folders})/[\\w./-]*)\``, 'g'))].map(
    ([, path = '']) => path,
  )
  // A module goes by its place in `src/`, where there is no other.
  const modules = [...text.matchAll(/`([\w./-]+\.(?:ts|js|cjs|sql|toml|md))`/g)].map(([, path = '']) => path)
  const links = [...text.matchAll(/\]\((?!https?:)([\w./-]+)(?:#[\w-]+)?\)/g)].map(([, path = '']) =>
    join(dirname(page), path),
  )
  const commands = [...text.matchAll(/npm run (?:-s )?([\w:-]+)/g)].map(([, name = '']) => name)
  expect([...paths, ...links].filter((path) => !existsSync(path))).toEqual([])
  expect(modules.filter((path) => ![path, `src/${path}`].some((one) => existsSync(one)))).toEqual([])
  expect(commands.filter((name) => !Object.hasOwn(scripts, name))).toEqual([])
})
