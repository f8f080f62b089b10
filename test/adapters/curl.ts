/** What one `curl` command of a provider's documentation sends. */
export interface Sent {
  method: string
  url: string
  /** Names in lower case. */
  headers: Record<string, string>
  body: unknown
}

/** Reads the options that the documentation uses: `-X`, `-H`, `-d`, `-g` and a URL, quoted or not. */
export function readCurl(command: string): Sent {
  const words = [...command.replaceAll('\\\n', ' ').matchAll(/'([^']*)'|"([^"]*)"|(\S+)/g)].map(
    ([, single, double, bare]) => single ?? double ?? bare ?? '',
  )
  const sent: Sent = { method: 'GET', url: '', headers: {}, body: undefined }
  for (let word = words.shift(); word !== undefined; word = words.shift()) {
    const argument = () => words.shift() ?? ''
    if (word === '-X') sent.method = argument()
    else if (word === '-d') sent.body = JSON.parse(argument())
    else if (word === '-H') {
      const [name = '', value = ''] = argument().split(/: (.*)/)
      sent.headers[name.toLowerCase()] = value
    } else if (URL.canParse(word)) sent.url = word
    else if (word !== 'curl' && word !== '-g') throw new TypeError(`unknown word ${word}`)
  }
  return sent
}
