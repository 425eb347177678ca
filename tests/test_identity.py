"""The name check: what a certificate is good for, and what only looks like it."""

from __future__ import annotations

import pickle

import pytest
from authority import Authority
from cryptography import x509

from dicomnet.errors import CertificateNameMismatch, CertificateVerificationError
from dicomnet.tls.identity import check_name

pytestmark = pytest.mark.usefixtures("leak_check")


@pytest.fixture(scope="module")
def issue():
    """Return a function that issues a certificate for names and addresses."""
    signer = Authority("Names", "ec")

    def issued(*names, common_name="pacs", **options):
        dns = [name for name in names if not name.startswith("IP:")]
        ips = [name[3:] for name in names if name.startswith("IP:")]
        return signer.issue(common_name, dns=dns, ips=ips, key="ec", **options).certificate

    return issued


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["pacs.example"], "pacs.example"),
        (["pacs.example"], "PACS.Example"),
        (["PACS.example"], "pacs.example"),
        (["pacs.example"], "pacs.example."),
        (["pacs.example"], " pacs.example "),
        (["localhost"], "localhost"),
        (["ct_scanner-2.example"], "ct_scanner-2.example"),
        (["a.example", "b.example"], "b.example"),
        (["*.imaging.example"], "ct.imaging.example"),
        (["xn--mnchen-3ya.example"], "münchen.example"),
        (["IP:10.0.0.5"], "10.0.0.5"),
        (["pacs.example", "IP:10.0.0.5"], "10.0.0.5"),
        (["IP:2001:db8::5"], "2001:db8::5"),
        (["IP:2001:db8::5"], "2001:0DB8:0:0::0005"),
        (["IP:2001:db8::5"], "[2001:db8::5]"),
        (["IP:fe80::1"], "fe80::1%eth0"),
        (["IP:10.0.0.5"], "::ffff:10.0.0.5"),
    ],
)
def test_good_for(issue, names, expected):
    check_name(issue(*names), expected)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["pacs.example"], "other.example"),
        (["pacs.example"], "a.pacs.example"),
        (["pacs.example"], "pacs"),
        (["pacs.example"], "pacs.example.evil.example"),
        (["*.imaging.example"], "imaging.example"),
        (["*.imaging.example"], "a.b.imaging.example"),
        (["*.example"], "pacs.example"),
        (["*"], "localhost"),
        (["pacs.*.example"], "pacs.x.example"),
        (["*.*.example"], "a.b.example"),
        (["pacs.example\0.evil.example"], "pacs.example"),
        (["pacs.example"], "10.0.0.5"),
        (["IP:10.0.0.5"], "10.0.0.6"),
        (["IP:10.0.0.5"], "pacs.example"),
        (["IP:2001:db8::5"], "2001:db8::6"),
        (["10.0.0.5"], "10.0.0.5"),
        (["*.0.0.5"], "10.0.0.5"),
        ([], "pacs"),
        (["pacs.example"], ""),
        (["pacs.example"], "."),
        (["pacs.example"], "5"),
        (["pacs.example"], "pacs .example"),
        (["pacs.example"], "pacs.example\0"),
        (["pacs.example"], "ü" * 70),
        (["pacs.example"], "*.example"),
    ],
)
def test_not_good_for(issue, names, expected):
    with pytest.raises(CertificateNameMismatch) as caught:
        check_name(issue(*names), expected)
    assert caught.value.expected == expected
    assert caught.value.refused_by == "us"
    assert len(caught.value.findings) == 1


def test_common_name_does_not_count(issue):
    with pytest.raises(CertificateNameMismatch, match="common name does not count"):
        check_name(issue(common_name="pacs.example"), "pacs.example")


def test_malformed_name_does_not_spoil_the_good_ones(issue):
    """An address listed as a DNS name is common on medical devices, and the other names still count."""
    certificate = issue("10.0.0.5", "*.*", "pacs.example", "IP:10.0.0.6")
    check_name(certificate, "pacs.example")
    check_name(certificate, "10.0.0.6")
    with pytest.raises(CertificateNameMismatch, match="must be listed as an IP address"):
        check_name(certificate, "10.0.0.5")


def test_other_kinds_of_name_do_not_count(issue):
    names = [x509.UniformResourceIdentifier("dicom://pacs.example"), x509.RFC822Name("a@pacs.example")]
    certificate = issue(extensions=[x509.SubjectAlternativeName(names)])
    with pytest.raises(CertificateNameMismatch, match="no host name"):
        check_name(certificate, "pacs.example")


def test_error_says_what_the_certificate_is_good_for(issue):
    with pytest.raises(CertificateNameMismatch) as caught:
        check_name(issue("pacs.example", "IP:10.0.0.5"), "other.example")
    error = caught.value
    assert error.findings == ("it is good for DNS:pacs.example, IP:10.0.0.5",)
    assert (error.subject, error.issuer) == ("CN=pacs,O=Test Hospital", "CN=Names,O=Test Hospital")
    assert (error.verify_code, error.depth) == (62, 0)
    assert isinstance(error, CertificateVerificationError)
    assert "'other.example'" in str(error)
    assert pickle.loads(pickle.dumps(error)).findings == error.findings


def test_address_has_its_own_verify_code(issue):
    with pytest.raises(CertificateNameMismatch) as caught:
        check_name(issue("pacs.example"), "10.0.0.5")
    assert caught.value.verify_code == 64


def test_many_names_are_cut_short(issue):
    with pytest.raises(CertificateNameMismatch) as caught:
        check_name(issue(*(f"host{n}.example" for n in range(500))), "other.example")
    assert "and 480 more" in str(caught.value)
    assert len(str(caught.value)) < 1000


def test_hostile_names_are_escaped(issue):
    with pytest.raises(CertificateNameMismatch) as caught:
        check_name(issue("evil\n\x1b[2J.example", common_name="a\nb"), "other\nname")
    assert str(caught.value).isprintable()
