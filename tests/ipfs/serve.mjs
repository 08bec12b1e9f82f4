// Serves a folder or file as a trustless gateway of IPFS on loopback, with Helia's importer, archives and blocks.
//
//   node serve.mjs PATH [--profile NAME] [--shard] [--no-archives]
//
// Prints one line of JSON: {"port": …, "cid": …}. `--profile`: unixfs-v1-2025 (default) or unixfs-v0-2015. `--shard`
// makes a hash table of every folder.

import { createReadStream } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { Readable } from 'node:stream'

import { car, UnixFSPath } from '@helia/car'
import * as dagPb from '@ipld/dag-pb'
import { defaultLogger } from '@libp2p/logger'
import { MemoryBlockstore } from 'blockstore-core'
import { importer } from 'ipfs-unixfs-importer'
import toBuffer from 'it-to-buffer'
import { CID } from 'multiformats/cid'
import * as raw from 'multiformats/codecs/raw'

const [path, ...options] = process.argv.slice(2)
const profile = options.includes('--profile') ? options[options.indexOf('--profile') + 1] : 'unixfs-v1-2025'
const blockstore = new MemoryBlockstore()
const archives = car({ blockstore, logger: defaultLogger(), getCodec: async code => (code === raw.code ? raw : dagPb) })

async function * files (at, name) {
  if (!(await stat(at)).isDirectory()) {
    yield { path: name, content: createReadStream(at) }
    return
  }
  for (const entry of await readdir(at)) {
    yield * files(join(at, entry), name === '' ? entry : `${name}/${entry}`)
  }
}

async function build () {
  const folder = (await stat(path)).isDirectory()
  const settings = { profile, wrapWithDirectory: folder, ...(options.includes('--shard') && { shardSplitThresholdBytes: 0 }) }
  let root
  for await (const entry of importer(files(path, folder ? '' : 'file'), blockstore, settings)) {
    root = entry.cid
  }
  return root
}

async function answer (request, response) {
  const url = new URL(request.url, 'http://localhost')
  const [, kind, cid, ...way] = url.pathname.split('/').map(decodeURIComponent)
  const root = CID.parse(cid)
  if (kind !== 'ipfs' || !(await blockstore.has(root))) {
    response.writeHead(404).end()
  } else if (url.searchParams.get('format') === 'raw') {
    response.writeHead(200, { 'Content-Type': 'application/vnd.ipld.raw' })
    response.end(await toBuffer(blockstore.get(root)))
  } else if (options.includes('--no-archives')) {
    response.writeHead(406).end()
  } else {
    const settings = way.length > 0 && { traversal: new UnixFSPath(way.join('/')), includeTraversalBlocks: true }
    response.writeHead(200, { 'Content-Type': 'application/vnd.ipld.car; version=1' })
    Readable.from(archives.export(root, settings || {})).on('error', () => response.destroy()).pipe(response)
  }
}

const cid = await build()
const server = createServer((request, response) => {
  answer(request, response).catch(error => response.writeHead(500).end(String(error)))
})
server.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: server.address().port, cid: cid.toString() })))
