import subprocess, socket, time, os, collections
from tls_peers import *
def test_dcmtk(certs, tmp_path):
    s=socket.create_server(('127.0.0.1',0)); port=s.getsockname()[1]; s.close()
    pr=subprocess.Popen(['storescp','-dhl','--ignore','+tls',str(certs/'server.key'),str(certs/'server.pem'),'+cf',str(certs/'ca.pem'),str(port)])
    try:
        for i in range(100):
            try: socket.create_connection(('127.0.0.1',port)).close(); break
            except OSError: time.sleep(.1)
        for name in (None,'stranger','expired','client'):
            seen=collections.Counter()
            for i in range(1 if name=='client' else 30):
                st=context_for(settings(certs,name),server_side=False).stream(TcpStream(socket.create_connection(('127.0.0.1',port))),expected_name='localhost')
                st.handshake(Deadline.after(5))
                def go():
                    st.write([b'\1\0\0\0\0\xc8'+bytes(200)],Deadline.after(5))
                    st.read_into(memoryview(bytearray(10)),Deadline.after(2))
                e=error_of(go); seen[type(e).__name__, str(e)[:150] if i==0 else '', getattr(e,'alert',None)]+=1
                st.close(Deadline.after(1))
            print(name,seen)
    finally:
        pr.terminate(); pr.wait()
