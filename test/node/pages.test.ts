import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { expect, test } from 'vitest'

const pages = [
  ...['README', 'ARCHITECTURE', 'CONTRIBUTING', 'DEPLOY', 'SECURITY'].map((name) => `${name}.md`),
  ...readdirSync('docs/providers').map((name) => `docs/providers/${name}`),
]
const { scripts } = JSON.parse(readFileSync('package.json', 'utf8')) as { scripts: Record<string, string> }

test.each(pages)('%s names only files, folders and commands that there are', (page) => {
  const text = readFileSync(page, 'utf8')
  const folders = 'src|adapters|migrations|test|sandbox|demo|docs|tools|bench'
  const paths = [...text.matchAll(new RegExp(`\`((?:${folders})/[\\w./-]*)\``, 'g'))].map(
    ([, path = '']) => path,
  )
  const links = [...text.matchAll(/\]\((?!https?:)([\w./-]+)(?:#[\w-]+)?\)/g)].map(([, path = '']) => path)
  const commands = [...text.matchAll(/npm run (?:-s )?([\w:-]+)/g)].map(([, name = '']) => name)
  expect([...paths, ...links, ...commands].length).toBeGreaterThan(0)
  expect([...paths, ...links].filter((path) => !existsSync(path))).toEqual([])
  expect(commands.filter((name) => !Object.hasOwn(scripts, name))).toEqual([])
})
