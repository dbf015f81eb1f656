// What an app does when the gateway answers 401: obey an order to wipe, and only a true one.
//
// `kept` is what the app kept of its registration: { person, device, username, password, url, wipe_key }; `local` is the
// copy of that person, `obeyed` the orders that it has obeyed (a Set of their `jti`, kept where the copy is not). Returns
// true if the copy was thrown away just now. Throws NotTheirs, and destroys nothing, for a copy of somebody else.
import { NotTheirs, ownersOf } from './copy.mjs';

const bytes = (text) => Uint8Array.from(atob(text.replaceAll('-', '+').replaceAll('_', '/')), (c) => c.charCodeAt(0));
const parsed = (text) => JSON.parse(new TextDecoder().decode(bytes(text)));

/** The order's claims if it is signed with our key and for this device; null for anything else. */
export async function trueOrder(order, kept) {
  try {
    const [head, body, signature] = order.split('.');
    const { alg, typ, kid } = parsed(head);
    if (alg !== 'ES256' || typ !== 'passbook-wipe+jwt' || kid !== kept.wipe_key.kid) return null;
    const { kty, crv, x, y } = kept.wipe_key;
    const algorithm = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' };
    const key = await crypto.subtle.importKey('jwk', { kty, crv, x, y }, algorithm, false, ['verify']);
    const signed = new TextEncoder().encode(`${head}.${body}`);
    if (!(await crypto.subtle.verify(algorithm, key, bytes(signature), signed))) return null;
    const claims = parsed(body);
    const ours = claims.act === 'wipe' && claims.aud === kept.device && typeof claims.jti === 'string';
    return ours ? claims : null;
  } catch {
    return null; // not even the shape of an order
  }
}

/** Look why the gateway refused; if it was told so by a true order, destroy `local` and send the receipt. */
export async function obey(local, kept, obeyed) {
  const authorization = `Basic ${btoa(`${kept.username}:${kept.password}`)}`;
  const answer = await fetch(kept.url, { headers: { authorization } });
  if (answer.status !== 401) return false;
  const { wipe } = await answer.json().catch(() => ({}));
  const claims = wipe && (await trueOrder(wipe, kept));
  if (!claims) return false; // a bare 401 deletes nothing
  const anew = !obeyed.has(claims.jti); // else its receipt got lost: a copy made since is not what it was about
  if (anew) {
    const owners = await ownersOf(local); // one that two were mixed into is theirs too
    if (owners.length && !owners.includes(kept.person)) throw new NotTheirs(kept.person);
    await local.destroy();
    obeyed.add(claims.jti);
  }
  await fetch(new URL('/wiped', kept.url), {
    method: 'POST',
    headers: { authorization, 'content-type': 'application/json' },
    body: JSON.stringify({ order: claims.jti }),
  });
  return anew;
}
