// Fetches a tree from a trustless gateway, with Helia's block broker, which checks each block, and its exporter.
//
//   node fetch.mjs GATEWAY CID
//
// Prints one line of JSON: the text of each file by its name.

import { trustlessGateway } from '@helia/block-brokers'
import { defaultLogger } from '@libp2p/logger'
import { exporter } from 'ipfs-unixfs-exporter'
import { uriToMultiaddr } from '@multiformats/uri-to-multiaddr'
import toBuffer from 'it-to-buffer'
import { CID } from 'multiformats/cid'
import { sha256 } from 'multiformats/hashes/sha2'

const [gateway, cid] = process.argv.slice(2)
const routing = {
  async * findProviders () {
    yield { id: undefined, multiaddrs: [uriToMultiaddr(gateway)], protocols: ['transport-ipfs-gateway-http'] }
  }
}
const broker = trustlessGateway({ allowInsecure: true, allowLocal: true })({ routing, logger: defaultLogger() })
const blockstore = {
  async * get (cid) {
    const validateFn = async block => {
      const hash = await sha256.digest(block)
      if (!Buffer.from(hash.bytes).equals(Buffer.from(cid.multihash.bytes))) {
        throw new Error(`other bytes came for ${cid}`)
      }
    }
    yield await broker.retrieve(cid, { validateFn })
  }
}

const files = {}

async function visit (cid, name) {
  const entry = await exporter(cid, blockstore)
  if (entry.type === 'directory') {
    for await (const { cid, name: below } of entry.entries()) await visit(cid, name === '' ? below : `${name}/${below}`)
    return
  }
  files[name] = new TextDecoder().decode(await toBuffer(entry.content()))
}

await visit(CID.parse(cid), '')
console.log(JSON.stringify(files))
